// Package contender is what the servers that the benchmark compares Gatehouse
// with have in common: they listen, say where, and serve until they are told to
// stop. They run on grpc-go's defaults, which is the point of them. They belong to
// the benchmark and never to the product.
package contender

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
)

// Run serves until ctx ends and returns the exit code.
func Run(ctx context.Context, args []string, stderr io.Writer, server authv3.AuthorizationServer) int {
	flags := flag.NewFlagSet("contender", flag.ContinueOnError)
	flags.SetOutput(stderr)
	readyFile := flags.String("ready-file", "", "write the address listened on to `FILE`, as JSON")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := serve(ctx, *readyFile, server); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, readyFile string, server authv3.AuthorizationServer) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, server)
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if readyFile != "" {
		text, err := json.Marshal(map[string]string{"authz_grpc": l.Addr().String()})
		if err != nil {
			return err
		}
		// Written beside and moved, so that nobody reads half of it.
		if err := os.WriteFile(readyFile+".new", text, 0o600); err != nil {
			return err
		}
		if err := os.Rename(readyFile+".new", readyFile); err != nil {
			return err
		}
	}
	return s.Serve(l)
}
