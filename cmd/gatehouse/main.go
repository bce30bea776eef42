// Command gatehouse is the operator's command: it prepares the database, makes
// users, companies and tokens, renders and checks Envoy's configuration, says
// what is wrong with an installation and runs the whole stack on one machine.
//
// It must never take a secret from its arguments, which every process of the
// machine can read, and never print one that it was not asked to make.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default comes back, so that a second one ends
	// a command that is slow to stop.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole command. It returns 0 for fine, 1 for failed and 2 for wrong
// use, wrong settings included.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	in := &invocation{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	if code, isChild := asChild(ctx, args, in); isChild {
		return code
	}
	root := newRoot(in)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := swallowed(root, args); err != nil {
		return in.exitCode(ctx, err)
	}
	cmd, err := root.ExecuteContextC(ctx)
	return in.exitCode(ctx, plainly(cmd, err))
}

// invocation is one run of the command: what the process was given, and how far
// it came.
type invocation struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer

	// began is set when a verb starts its work. Every error before that is one
	// of use, whichever layer of the command line found it.
	began bool
	// help holds what was wrong with a call that also asked for help.
	help error
}
