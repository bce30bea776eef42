package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// patience is how long a condition is waited for that must come true.
const patience = 20 * time.Second

// stack is one whole gate: PostgreSQL, authz, login, Envoy and two upstreams.
type stack struct {
	t             *testing.T
	settings      map[string]string
	gateway       string // http://host:port of Envoy
	address       string // host:port of Envoy
	login         string // http://host:port
	authzOps      string
	database      string
	ingest, query *upstream
	authz         *devstack.Process
	log           *record // of authz
	access        *record // of Envoy
}

// startStack runs a gate with these settings beside the usual ones. A setting
// with an empty value is left out.
func startStack(t *testing.T, settings map[string]string) *stack {
	t.Helper()
	return startStackOn(t, postgrestest.New(t), settings)
}

func startStackOn(t *testing.T, database string, settings map[string]string) *stack {
	t.Helper()
	s := &stack{
		t: t, database: database,
		ingest: newUpstream(t), query: newUpstream(t),
		log: &record{}, access: &record{},
	}
	s.address = freeAddress(t)
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
		"GATEWAY_LOG_LEVEL":          "DEBUG",
		// The limit has a stack of its own.
		"GATEWAY_EDGE_LOGIN_RATE_LIMIT": "off",
	}
	for name, value := range settings {
		s.settings[name] = value
		if value == "" {
			delete(s.settings, name)
		}
	}
	s.authzOps = "http://" + s.settings["GATEWAY_AUTHZ_OPS_LISTEN"]
	s.login = "http://" + s.settings["GATEWAY_LOGIN_LISTEN"]

	s.command("migrate")
	s.startAuthz()
	s.start("login", filepath.Join(binaries, "login"), nil, &record{})
	s.await("login", "http://"+s.settings["GATEWAY_LOGIN_OPS_LISTEN"]+"/readyz")
	s.startEnvoy()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("authz said:\n%s", s.log.tail(4000))
			t.Logf("Envoy said:\n%s", s.access.tail(4000))
		}
	})
	return s
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
	cmd := exec.Command(filepath.Join(binaries, "gatehouse"), args...)
	cmd.Env = s.environ()
	cmd.Dir = s.t.TempDir() // no .env of the machine's
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
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			s.t.Errorf("stopping %s: %v", name, err)
		}
	})
	return p
}

func (s *stack) startAuthz() {
	s.t.Helper()
	s.authz = s.start("authz", filepath.Join(binaries, "authz"), []string{"--drain=0s"}, s.log)
	s.await("authz", s.authzOps+"/readyz")
}

// killAuthz ends authz without a chance to say good-bye.
func (s *stack) killAuthz() {
	s.t.Helper()
	if err := s.authz.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-s.authz.Done()
}

func (s *stack) startEnvoy() {
	s.t.Helper()
	binary, err := devstack.EnvoyBinary(s.t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		s.t.Fatal(err)
	}
	config := filepath.Join(s.t.TempDir(), "envoy.yaml")
	s.command("envoy", "render", "--output", config)
	s.start("envoy", binary.Path, []string{"-c", config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn"}, s.access)
	s.await("Envoy", "http://"+s.settings["GATEWAY_ENVOY_ADMIN_LISTEN"]+"/ready")
	// Envoy is ready before it has asked authz for its health.
	eventually(s.t, "the gate answers from authz", func() error {
		return s.get("/api/v1/query/x", nil).is(http.StatusUnauthorized)
	})
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

// eventually waits, with a deadline, for f to stop failing.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		<-tick.C
	}
}

// freeAddress is a loopback address on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// user is somebody in the database.
type user struct {
	id, email, password, company string
}

// sql runs a statement as an operator with psql would.
func (s *stack) sql(statement string, args ...any) {
	s.t.Helper()
	s.row(statement, args...)
}

// row runs a statement and returns its one row, nil if it gave none.
func (s *stack) row(statement string, args ...any) []any {
	s.t.Helper()
	ctx := s.t.Context()
	c, err := pgx.Connect(ctx, s.database)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, statement, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	var values []any
	if rows.Next() {
		if values, err = rows.Values(); err != nil {
			s.t.Fatal(err)
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
	return values
}

// newCompany makes a company and returns its id.
func (s *stack) newCompany() string {
	s.t.Helper()
	return fmt.Sprint(s.row(`INSERT INTO companies (name) VALUES ('Company ' || gen_random_uuid()) RETURNING id::text`)[0])
}

// newUser makes an active user of that company (empty: of none), with a
// password that only logins by HTTP pay for.
func (s *stack) newUser(company string) user {
	s.t.Helper()
	var in any
	if company != "" {
		in = company
	}
	r := s.row(`INSERT INTO users (company_id, email, role, is_active)
		VALUES ($1::uuid, 'user-' || gen_random_uuid() || '@example.com', 'user', true) RETURNING id::text, email`, in)
	return user{id: fmt.Sprint(r[0]), email: fmt.Sprint(r[1]), company: company}
}

// record keeps what a program writes.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *record) tail(n int) string {
	s := r.String()
	return s[max(0, len(s)-n):]
}

// find returns the first JSON line whose field has this value.
func (r *record) find(field, value string) (map[string]any, error) {
	for line := range strings.Lines(r.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && fmt.Sprint(m[field]) == value {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no line with %s = %s", field, value)
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
