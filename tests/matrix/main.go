// Matrix runs the tests of the edge on one release of each version of Envoy that is
// supported, and writes into the manual what came out: make e2e-matrix. Exit codes:
// 0 all of them passed on all versions, 1 one did not, 2 wrong use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
)

// The ways to end.
const (
	fine   = 0
	failed = 1
	misuse = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("matrix", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("versions", strings.Join(devstack.EnvoyReleases(), ","), "the `VERSIONS` to run on, joined by commas; the page is written only after all of them")
	page := flags.String("page", "docs/envoy-versions.md", "the `FILE` to write the table into, between its marks; empty: none")
	logs := flags.String("logs", "", "keep what go test prints in this `DIR`ectory")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return fine
	case err != nil:
		return misuse
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "matrix: unexpected argument %q\n", flags.Arg(0))
		return misuse
	}
	versions := strings.Split(*only, ",")
	table := newTable(versions)
	for _, version := range versions {
		binary, err := devstack.EnvoyRelease(ctx, version, devstack.FindOptions{Notice: func(s string) { fmt.Fprintln(stderr, s) }})
		if err != nil {
			fmt.Fprintf(stderr, "matrix: %v\n", err)
			return failed
		}
		for _, s := range suites() {
			fmt.Fprintf(stderr, "Envoy %s: %s\n", version, s.pkg)
			results, err := s.run(ctx, environ, binary.Path, logFile(*logs, version, s.pkg))
			if err != nil {
				fmt.Fprintf(stderr, "matrix: Envoy %s: %v\n", version, err)
				return failed
			}
			for _, r := range results {
				table.add(version, r)
				if r.outcome == outcomeFailed {
					fmt.Fprintf(stderr, "Envoy %s: FAIL %s %s\n", version, s.pkg, r.test)
				}
			}
		}
	}
	ran := fmt.Sprintf("%s, %s/%s", time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH)
	fmt.Fprint(stdout, table.markdown(ran))
	if *page != "" && table.complete() {
		if err := writeBlock(*page, table.markdown(ran)); err != nil {
			fmt.Fprintf(stderr, "matrix: %v\n", err)
			return failed
		}
	}
	if !table.passed() {
		return failed
	}
	return fine
}
