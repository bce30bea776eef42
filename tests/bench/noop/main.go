// Noop is an ext_authz server that looks at nothing and allows everything, on the
// defaults of grpc-go: what is usually taken for the least that a check can cost.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/atenex/gatehouse/tests/bench/contender"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := contender.Run(ctx, os.Args[1:], os.Stderr, noop{})
	stop()
	os.Exit(code)
}

type noop struct{}

// Check sets the three headers that the others set too.
func (noop) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return contender.Allow(contender.NoopUser, "00000000-0000-4000-8000-00000000c0de", "nobody@example.com"), nil
}
