package e2e

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// stack is one whole gate: PostgreSQL, authz, login, Envoy and two upstreams.
type stack struct {
	t                   testing.TB
	settings            map[string]string
	gateway             string // http://host:port of Envoy
	address             string // host:port of Envoy
	login               string // http://host:port
	authzOps            string
	loginOps            string
	database            string
	ingest, query, auth *upstream // auth: nil unless a test says so

	authzProcess, loginProcess, envoyProcess *devstack.Process
	authzLog, loginLog, envoyLog             *record
}

// startStack runs a gate with these settings beside the usual ones. A setting
// with an empty value is left out.
func startStack(t testing.TB, settings map[string]string) *stack {
	t.Helper()
	return startStackOn(t, postgrestest.New(t), settings)
}

// startStackWithoutLogin is for tests that ask it nothing: to start, it measures how
// long its hashes take, which costs a second of a processor.
func startStackWithoutLogin(t testing.TB, settings map[string]string) *stack {
	t.Helper()
	s := newStack(t, postgrestest.New(t), settings)
	s.command("migrate")
	s.startAuthz()
	s.startEnvoy()
	s.answers()
	return s
}

func startStackOn(t testing.TB, database string, settings map[string]string) *stack {
	t.Helper()
	s := newStack(t, database, settings)
	s.run()
	return s
}

// run prepares the database and starts the gate.
func (s *stack) run() {
	s.t.Helper()
	s.command("migrate")
	s.startAuthz()
	s.startLogin()
	s.startEnvoy()
	s.answers()
}

// answers waits until the gate does. Envoy is ready before it has asked authz for
// its health.
func (s *stack) answers() {
	s.t.Helper()
	eventually(s.t, "the gate answers from authz", func() error {
		return s.postJSON("/api/v1/query/ask", nil, "{}").is(http.StatusUnauthorized)
	})
}

// newStack settles where everything is going to be and starts the upstreams
// alone.
func newStack(t testing.TB, database string, settings map[string]string) *stack {
	t.Helper()
	s := &stack{
		t: t, database: database,
		ingest: newUpstream(t), query: newUpstream(t),
		authzLog: &record{}, loginLog: &record{}, envoyLog: &record{},
		address: freeAddress(t),
	}
	s.gateway = "http://" + s.address
	s.settings = map[string]string{
		"GATEWAY_DATABASE_URL":       database,
		"GATEWAY_JWT_SECRET":         secret,
		"GATEWAY_LISTEN":             s.address,
		"GATEWAY_ENVOY_ADMIN_LISTEN": freeAddress(t),
		"GATEWAY_AUTHZ_LISTEN":       freeAddress(t),
		"GATEWAY_AUTHZ_OPS_LISTEN":   freeAddress(t),
		"GATEWAY_LOGIN_LISTEN":       freeAddress(t),
		"GATEWAY_LOGIN_OPS_LISTEN":   freeAddress(t),
		"GATEWAY_INGEST_SERVICE_URL": s.ingest.URL,
		"GATEWAY_QUERY_SERVICE_URL":  s.query.URL,
		"GATEWAY_POSTGRES_POOL_MIN":  "1",
		"GATEWAY_POSTGRES_POOL_MAX":  "5",
		"GATEWAY_LOG_LEVEL":          "DEBUG",
		// The limits have stacks of their own.
		"GATEWAY_EDGE_LOGIN_RATE_LIMIT": "off",
		"GATEWAY_LOGIN_THROTTLE":        "off",
	}
	for name, value := range settings {
		s.settings[name] = value
		if value == "" {
			delete(s.settings, name)
		}
	}
	s.authzOps = "http://" + s.settings["GATEWAY_AUTHZ_OPS_LISTEN"]
	s.login = "http://" + s.settings["GATEWAY_LOGIN_LISTEN"]
	s.loginOps = "http://" + s.settings["GATEWAY_LOGIN_OPS_LISTEN"]
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("authz said last:\n%s", s.authzLog.tail(3000))
			t.Logf("login said last:\n%s", s.loginLog.tail(1500))
			t.Logf("Envoy said last:\n%s", s.envoyLog.tail(3000))
		}
	})
	return s
}

// in is the same stack in the hands of another test.
func (s *stack) in(t testing.TB) *stack {
	t.Helper()
	view := *s
	view.t = t
	return &view
}

// environ is the environment of the gate's own programs.
func (s *stack) environ() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range s.settings {
		env = append(env, name+"="+value)
	}
	return env
}

// command runs the operator's command and returns what it printed.
func (s *stack) command(args ...string) string {
	s.t.Helper()
	return s.commandWith("", args...)
}

// commandWith gives it something on standard input.
func (s *stack) commandWith(stdin string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "gatehouse"), args...)
	cmd.Env = s.environ()
	if url := s.settings["GATEWAY_DATABASE_URL"]; strings.Contains(url, "?") {
		// The two seconds that a connection has may be too short on a busy machine.
		cmd.Env = append(cmd.Env, "GATEWAY_DATABASE_URL="+url+"&connect_timeout=60")
	}
	cmd.Dir = s.t.TempDir() // no .env of the machine's
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("gatehouse %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out)
}

func (s *stack) start(name, path string, args []string, out *record) *devstack.Process {
	s.t.Helper()
	p, err := devstack.Start(devstack.Command{Name: name, Path: path, Args: args, Env: s.environ(), Dir: s.t.TempDir(), Output: out})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = p.Signal(syscall.SIGCONT) // one that was frozen cannot stop
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			s.t.Errorf("stopping %s: %v", name, err)
		}
	})
	return p
}

func (s *stack) startAuthz() {
	s.t.Helper()
	s.launchAuthz()
	s.await("authz", s.authzOps+"/readyz")
}

// launchAuthz does not wait until it is ready.
func (s *stack) launchAuthz() {
	s.t.Helper()
	s.authzProcess = s.start("authz", filepath.Join(binaries, "authz"), []string{"--drain=0s"}, s.authzLog)
}

func (s *stack) startLogin() {
	s.t.Helper()
	s.loginProcess = s.start("login", filepath.Join(binaries, "login"), []string{"--drain=0s"}, s.loginLog)
	s.await("login", s.loginOps+"/readyz")
}

func (s *stack) startEnvoy() {
	s.t.Helper()
	s.startEnvoyWith(func(config []byte) []byte { return config })
}

// startEnvoyWith lets a test have a hand in the configuration.
func (s *stack) startEnvoyWith(change func([]byte) []byte) {
	s.t.Helper()
	binary, err := devstack.EnvoyBinary(s.t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		s.t.Fatal(err)
	}
	config := filepath.Join(s.t.TempDir(), "envoy.yaml")
	s.command("envoy", "render", "--output", config)
	rendered, err := os.ReadFile(config)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(config, change(rendered), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.envoyProcess = s.start("envoy", binary.Path, []string{
		"-c", config, "--use-dynamic-base-id", "--concurrency", "1",
		// What Envoy writes of requests is looked at.
		"--log-level", "warn", "--file-flush-interval-msec", "50",
	}, s.envoyLog)
	s.await("Envoy", "http://"+s.settings["GATEWAY_ENVOY_ADMIN_LISTEN"]+"/ready")
}

// kill ends a process without a chance to say good-bye.
func (s *stack) kill(p *devstack.Process) {
	s.t.Helper()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-p.Done()
}

func (s *stack) await(what, readyURL string) {
	s.t.Helper()
	eventually(s.t, what+" is ready", func() error {
		r, err := http.Get(readyURL)
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	})
}
