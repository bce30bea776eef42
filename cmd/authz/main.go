// Command authz decides, for every request that Envoy asks about, whether it may pass and as whom.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/atenex/gatehouse/cmd/internal/authzd"
	"github.com/atenex/gatehouse/cmd/internal/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default comes back, so that a second one ends a
	// process that is slow to drain.
	context.AfterFunc(ctx, stop)
	os.Exit(authzd.Run(ctx, daemon.Call{Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr}))
}
