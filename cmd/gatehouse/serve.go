package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/cmd/internal/authzd"
	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/cmd/internal/logind"
	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/serve"
)

// `up` starts the services as this same program, so that one binary is enough
// to run everything. These words are not commands for people: the services have
// binaries of their own.
const (
	childAuthz = "serve-authz"
	childLogin = "serve-login"
)

// child runs the service that args name, if they name one.
func asChild(ctx context.Context, args []string, in *invocation) (code int, isChild bool) {
	if len(args) == 0 {
		return 0, false
	}
	call := daemon.Call{Args: args[1:], Environ: in.environ, Stdout: in.stdout, Stderr: in.stderr}
	switch args[0] {
	case childAuthz:
		return authzd.Run(ctx, call), true
	case childLogin:
		return logind.Run(ctx, call), true
	}
	return 0, false
}

// newDemoUpstream is for the compose file, where the demo upstreams are
// containers of their own.
func newDemoUpstream(in *invocation) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:    "demo-upstream NAME",
		Short:  "Run an HTTP service that echoes what it receives",
		Hidden: true,
		Args:   takes("NAME"),
		RunE: in.runs(func(ctx context.Context, args []string) error {
			l, err := serve.Listen(ctx, listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(in.stderr, "%s echoes on %s\n", args[0], serve.Address(l))
			return serve.Run(ctx, 5*time.Second, serve.HTTP(args[0], l, &http.Server{
				Handler:           devstack.Echo(args[0]),
				ReadHeaderTimeout: 10 * time.Second,
				BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
			}))
		}),
	}
	cmd.Flags().StringVar(&listen, "listen", ":8000", "`ADDRESS` to serve on, host:port")
	return cmd
}
