// Command login lets people in and puts them in a company.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/cmd/internal/logind"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default comes back, so that a second one ends a
	// process that is slow to drain.
	context.AfterFunc(ctx, stop)
	os.Exit(logind.Run(ctx, daemon.Call{Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr}))
}
