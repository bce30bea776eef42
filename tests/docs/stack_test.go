package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stack is the one `gatehouse up` behind all pages.
type stack struct {
	addresses struct {
		Gateway     string `json:"gateway"`
		AuthzGRPC   string `json:"authz_grpc"`
		AuthzOps    string `json:"authz_ops"`
		Login       string `json:"login"`
		LoginOps    string `json:"login_ops"`
		EnvoyAdmin  string `json:"envoy_admin"`
		DatabaseURL string `json:"database_url"`
	}
	demo struct {
		Email    string `json:"email"`
		Password string `json:"password"`
		Secret   string `json:"token_secret"`
	}
	readyFile string
	decisions string // where authz records them
	tools     string // a directory for PATH
	in        *strings.Replacer
}

// startLimit is how long `gatehouse up` may take, which on a machine without
// Envoy or PostgreSQL fetches them.
const startLimit = 3 * time.Minute

var (
	started sync.Once
	theOne  stack
	upErr   error
	up      *exec.Cmd
	said    bytes.Buffer
)

// shared is the stack, started when the first test asks for it.
func shared(t *testing.T) *stack {
	t.Helper()
	started.Do(func() { upErr = theOne.start() })
	if upErr != nil {
		t.Fatalf("gatehouse up: %v\n%s", upErr, said.Bytes())
	}
	return &theOne
}

func (s *stack) start() error {
	dir := filepath.Dir(binaries)
	s.readyFile, s.decisions = filepath.Join(dir, "ready.json"), filepath.Join(dir, "decisions.jsonl")
	public, err := freeAddress()
	if err != nil {
		return err
	}
	state, err := stateDir()
	if err != nil {
		return err
	}
	up = exec.Command(filepath.Join(binaries, "gatehouse"), "up", "--listen", public, "--state-dir", state, "--ready-file", s.readyFile)
	up.Env, up.Dir = append(machine(), "GATEWAY_DECISION_LOG="+s.decisions), dir
	up.Stdout, up.Stderr = &said, &said
	if err := up.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	stopped = ended
	err = poll(startLimit, func() (bool, error) {
		select {
		case err := <-ended:
			stopped = nil
			return true, fmt.Errorf("ended before it was ready: %w", err)
		default:
		}
		text, err := os.ReadFile(s.readyFile)
		if err != nil {
			return false, err
		}
		return true, json.Unmarshal(text, &s.addresses)
	})
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(state, "demo.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &s.demo); err != nil {
		return err
	}
	if s.tools, err = makeTools(dir); err != nil {
		return err
	}
	s.in = strings.NewReplacer(
		"localhost:8080", hostOf(s.addresses.Gateway),
		"localhost:8081", hostOf(s.addresses.Login),
		"localhost:8082", hostOf(s.addresses.LoginOps),
		"localhost:9191", s.addresses.AuthzGRPC,
		"localhost:9192", hostOf(s.addresses.AuthzOps),
		"localhost:9901", hostOf(s.addresses.EnvoyAdmin),
		"<printed by make up>", s.demo.Password,
	)
	return s.answersAuthz()
}

// answersAuthz waits until Envoy has asked authz for its health, which up does
// too, but for the public door alone.
func (s *stack) answersAuthz() error {
	return poll(20*time.Second, func() (bool, error) {
		r, err := http.Get(s.addresses.Gateway + "/api/v1/query/hello")
		if err != nil {
			return false, err
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusUnauthorized {
			return false, errors.New(r.Status)
		}
		return true, nil
	})
}

// poll asks until it is told that there is no need to go on, or for that long. Its
// error is the last one.
func poll(limit time.Duration, ask func() (done bool, err error)) error {
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ask()
		if done {
			return err
		}
		select {
		case <-deadline:
			return err
		case <-tick.C:
		}
	}
}

// stopped gets the end of up; nil while it does not run.
var stopped chan error

func endStack() error {
	if stopped == nil {
		return nil
	}
	if state != "" {
		defer func() { _ = os.RemoveAll(state) }()
	}
	_ = up.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-stopped:
		if err != nil {
			return fmt.Errorf("gatehouse up ended with %w:\n%s", err, said.Bytes())
		}
		return nil
	case <-time.After(30 * time.Second):
		_ = up.Process.Kill()
		return errors.New("gatehouse up did not end within 30 s of SIGTERM")
	}
}

var state string

// stateDir is one that the user of PostgreSQL can enter too, and short enough for
// a socket in it.
func stateDir() (string, error) {
	dir, err := os.MkdirTemp("/var/tmp", "gatehouse-docs-")
	if err != nil {
		dir, err = os.MkdirTemp("", "gatehouse-docs-")
	}
	if err != nil {
		return "", err
	}
	state = dir
	return dir, os.Chmod(dir, 0o711)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// machine is what the pages' programs know of this machine, and no setting of
// whoever runs the tests.
func machine() []string {
	var all []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "ENVOY_BIN", "PG_BIN"} {
		if value := os.Getenv(name); value != "" {
			all = append(all, name+"="+value)
		}
	}
	return all
}

// environ is that of a page's shell.
func (s *stack) environ() []string {
	all := machine()
	for i, v := range all {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			all[i] = "PATH=" + s.tools + ":" + binaries + ":" + path
		}
	}
	return append(all,
		"LC_ALL=C.UTF-8",
		"GATEHOUSE_MAKEFILE="+makefile(),
		"DATABASE_URL="+s.addresses.DatabaseURL,
		// What `up` gives its own parts, so that the command sees the same gate.
		"GATEWAY_DATABASE_URL="+s.addresses.DatabaseURL,
		"GATEWAY_JWT_SECRET="+s.demo.Secret,
		"GATEWAY_INGEST_SERVICE_URL=http://ingest.internal:8000",
		"GATEWAY_QUERY_SERVICE_URL=http://query.internal:8000",
		"GATEWAY_LISTEN="+hostOf(s.addresses.Gateway),
		"GATEWAY_ENVOY_ADMIN_LISTEN="+hostOf(s.addresses.EnvoyAdmin),
		"GATEWAY_AUTHZ_LISTEN="+s.addresses.AuthzGRPC,
		"GATEWAY_AUTHZ_OPS_LISTEN="+hostOf(s.addresses.AuthzOps),
		"GATEWAY_LOGIN_LISTEN="+hostOf(s.addresses.Login),
		"GATEWAY_LOGIN_OPS_LISTEN="+hostOf(s.addresses.LoginOps),
	)
}

func hostOf(url string) string { return strings.TrimPrefix(url, "http://") }

func makefile() string {
	path, err := filepath.Abs(filepath.Join(root, "Makefile"))
	if err != nil {
		return ""
	}
	return path
}

// command runs the operator's command outside a page.
func command(args ...string) (string, error) { return commandIn(filepath.Dir(binaries), args...) }

// commandIn runs it in a directory, of which it reads .env.
func commandIn(dir string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(binaries, "gatehouse"), args...)
	cmd.Env = append(machine(),
		"GATEWAY_INGEST_SERVICE_URL=http://ingest.internal:8000", "GATEWAY_QUERY_SERVICE_URL=http://query.internal:8000")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("gatehouse %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out), err
}
