package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// outcome is how a test ended.
type outcome string

// The three that go test knows, in its words.
const (
	outcomePassed  outcome = "pass"
	outcomeFailed  outcome = "fail"
	outcomeSkipped outcome = "skip"
)

// result is that of one test that has no subtests.
type result struct {
	test    string
	outcome outcome
}

// A suite is a package and which of its tests are run; none named: all.
type suite struct {
	pkg   string
	tests []string
}

func suites() []suite { return []suite{{pkg: edge}, {pkg: gate, tests: named()}} }

// run has go test run the suite on this Envoy. It is an error if a test was not
// there to be counted: the package did not build, or it ended before its time.
func (s suite) run(ctx context.Context, environ []string, envoy, logFile string) ([]result, error) {
	args := []string{"test", "-json", "-count=1", "-timeout", "20m"}
	if len(s.tests) > 0 {
		args = append(args, "-run", "^("+strings.Join(s.tests, "|")+")$")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, s.pkg)...)
	cmd.Env = append(slices.Clone(environ), "ENVOY_BIN="+envoy)
	// Tests stop what they have started when they are told to end.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	failure := cmd.Run()
	if logFile != "" {
		if err := os.WriteFile(logFile, out.Bytes(), 0o600); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	results, err := read(&out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", s.pkg, err, said.Bytes())
	}
	ended := slices.ContainsFunc(results, func(r result) bool { return r.outcome == outcomeFailed })
	if failure != nil && !ended {
		return nil, fmt.Errorf("%s: %w, and no test of it failed\n%s", s.pkg, failure, said.Bytes())
	}
	return results, nil
}

// read is what became of each test, of those that have subtests only these: the rest
// of such a test is their frame. A test that began and did not end has failed.
func read(events io.Reader) ([]result, error) {
	outcomes := map[string]outcome{}
	parents := map[string]bool{}
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("go test -json said %q: %w", lines.Text(), err)
		}
		if e.Test == "" {
			continue
		}
		switch e.Action {
		case "run":
			outcomes[e.Test] = outcomeFailed
			for at, c := range e.Test {
				if c == '/' {
					parents[e.Test[:at]] = true
				}
			}
		case string(outcomePassed), string(outcomeFailed), string(outcomeSkipped):
			outcomes[e.Test] = outcome(e.Action)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(outcomes) == 0 {
		return nil, errors.New("no test was run")
	}
	var results []result
	for test, o := range outcomes {
		// One whose own lines failed, and none of its subtests, counts as well.
		if parents[test] && (o != outcomeFailed || failedBelow(outcomes, test)) {
			continue
		}
		results = append(results, result{test, o})
	}
	slices.SortFunc(results, func(a, b result) int { return strings.Compare(a.test, b.test) })
	return results, nil
}

func failedBelow(outcomes map[string]outcome, test string) bool {
	for name, o := range outcomes {
		if o == outcomeFailed && strings.HasPrefix(name, test+"/") {
			return true
		}
	}
	return false
}

func logFile(dir, version, pkg string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, version+"-"+filepath.Base(pkg)+".json")
}
