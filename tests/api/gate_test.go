package api

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gate is a `gatehouse up` without limits, on which everything is turned on.
type gate struct {
	Gateway  string `json:"gateway"`
	Database string `json:"database_url"`

	program string
	company string
}

func startGate(t *testing.T) *gate {
	t.Helper()
	dir := t.TempDir()
	// PostgreSQL may run as another user than the tests.
	state, err := os.MkdirTemp("", "gatehouse-api-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	g := &gate{program: filepath.Join(dir, "gatehouse")}
	run(t, nil, "go", "build", "-o", g.program, "github.com/atenex/gatehouse/cmd/gatehouse")
	keys := filepath.Join(dir, "keys.json")
	run(t, nil, g.program, "key", "generate", "--set", "--out", keys)

	readyFile := filepath.Join(dir, "ready.json")
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = said.Close() })
	cmd := exec.Command(g.program, "up", "--state-dir", state, "--listen", "127.0.0.1:0", "--ready-file", readyFile)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, said, said
	cmd.Env = append(os.Environ(),
		"GATEWAY_JWT_KEYS_FILE="+keys,
		"GATEWAY_LOGIN_THROTTLE=off",
		"GATEWAY_EDGE_LOGIN_RATE_LIMIT=off",
		"GATEWAY_REGISTRATION=postgres",
		"GATEWAY_REFRESH_TOKEN_TTL=1h",
	)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("up ended: %v", err)
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Error("up did not stop within a minute")
		}
		if t.Failed() {
			text, _ := os.ReadFile(said.Name())
			t.Logf("up said last:\n%s", text[max(0, len(text)-4000):])
		}
	})
	deadline := time.Now().Add(3 * time.Minute)
	for {
		text, err := os.ReadFile(readyFile)
		if err == nil && json.Unmarshal(text, g) == nil {
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("up ended before it was ready: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("up is not ready after three minutes")
		}
	}
	g.company = g.command(t, "", "company", "create", "The company of the run")
	return g
}

// command is the operator's, on the gate's database.
func (g *gate) command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), g.program, args...)
	cmd.Env = append(os.Environ(), "GATEWAY_DATABASE_URL="+g.Database)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			out = failed.Stderr
		}
		t.Fatalf("gatehouse %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func run(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
