// Bench is the honest comparison of spec and README: it builds authz and two other
// ext_authz servers, puts all of them behind one real Envoy, a listener each, and
// measures them in paired rounds against a no-op; it measures how fast a
// revocation is enforced by three replicas; and it runs the benchmarks in process.
//
// Run it on a machine with nothing else to do: make bench. Exit codes: 0 every bar
// is met, 1 a bar is missed or a request went wrong, 2 wrong use.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The ways to end.
const (
	fine   = 0
	failed = 1
	misuse = 2
)
