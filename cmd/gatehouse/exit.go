package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/atenex/gatehouse/internal/config"
)

// The exit codes, which scripts rely on.
const (
	exitFine   = 0
	exitFailed = 1
	exitMisuse = 2
)

// errReported ends a command whose output has already said what failed.
var errReported = errors.New("reported")

// exitCode says on stderr what went wrong, one line for each fault, and returns
// the code that the process ends with.
func (in *invocation) exitCode(ctx context.Context, err error) int {
	if err == nil {
		err = in.help
	}
	if err == nil {
		return exitFine
	}
	_, misused := errors.AsType[*useError](err)
	misused = misused || !in.began
	faults, faulty := errors.AsType[config.Faults](err)
	switch {
	case errors.Is(err, errReported):
	case faulty:
		// As every binary of ours prints them: the line begins with the setting.
		fmt.Fprintln(in.stderr, faults)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		in.complain("interrupted")
	default:
		in.complain(err.Error())
	}
	if misused {
		return exitMisuse
	}
	return exitFailed
}

// complain writes to stderr with the command's name before every line, so that
// a fault can be told from whatever else a log holds.
func (in *invocation) complain(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(in.stderr, "gatehouse: %s\n", line)
	}
}
