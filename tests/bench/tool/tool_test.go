package tool

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRunSaysWhatWasSaid(t *testing.T) {
	out, err := Run(t.Context(), map[string]string{"WORD": "good"}, "/bin/sh", "-c", `echo "$WORD $HOME"`)
	if err != nil || string(out) != "good \n" {
		t.Errorf("Run = %q, %v, want the environment that was given and no other", out, err)
	}
	_, err = Run(t.Context(), nil, "/bin/sh", "-c", "echo a reason >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "a reason") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("err = %v, want the status and the reason", err)
	}
}

func TestRunTakesGrandchildrenWithIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		// The shell waits, and so ignores nothing; its child would live for a minute.
		_, err := Run(ctx, map[string]string{"PATH": os.Getenv("PATH")}, "/bin/sh", "-c", "sh -c 'echo $$ >"+file+"; exec sleep 60'; true")
		ended <- err
	}()
	var pid int
	eventually(t, "the grandchild runs", func() bool {
		text, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	cancel()
	if err := <-ended; err == nil {
		t.Error("a program that was called off has not failed")
	}
	eventually(t, "the grandchild is gone", func() bool { return syscall.Kill(pid, 0) != nil })
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); !f(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not in time", what)
		}
	}
}
