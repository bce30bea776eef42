package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// stack is one project of compose.
type stack struct {
	t        *testing.T
	project  string
	dir      string // of the project: the repository, absolute
	files    []string
	environ  []string
	gateway  string
	monitor  string
	password string // of the demo user
}

// newStack starts nothing. The project is removed when the test ends, however it
// ends.
func newStack(t *testing.T) *stack {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &stack{
		t: t, dir: dir, project: fmt.Sprintf("gatehouse-test-%d", os.Getpid()),
		files: []string{"docker-compose.yaml"},
	}
	gateway, monitor := freeAddress(t), freeAddress(t)
	s.gateway, s.monitor = "http://"+gateway, "http://"+monitor
	// Of the environment only what the client needs: what a developer has in .env
	// or the shell is not the test's.
	for _, name := range []string{"PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			s.environ = append(s.environ, name+"="+value)
		}
	}
	s.environ = append(s.environ, "COMPOSE_ENV_FILES="+empty, "COMPOSE_PROGRESS=quiet",
		"GATEHOUSE_VERSION="+s.project, "GATEHOUSE_PUBLISH="+gateway, "GATEHOUSE_PROMETHEUS="+monitor, "GATEHOUSE_GRAFANA="+freeAddress(t),
		"GATEHOUSE_NET=172.30.81", "GATEHOUSE_METRICS_NET=172.30.82")
	t.Cleanup(s.remove)
	return s
}

// remove takes the whole project away and sees that nothing of it is left.
func (s *stack) remove() {
	if s.t.Failed() {
		out, _ := s.try("ps", "-a")
		logs, _ := s.try("logs", "--no-color", "--tail", "15")
		s.t.Logf("%s\n%s", out, logs)
	}
	if out, err := s.try("--profile", "*", "down", "-v", "--remove-orphans", "--rmi", "local"); err != nil {
		s.t.Errorf("down: %v\n%s", err, out)
	}
	for _, image := range []string{"authz", "login", "gatehouse"} {
		_, _ = s.tryDocker("image", "rm", "ghcr.io/atenex/gatehouse/"+image+":"+s.project)
	}
	for _, what := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
		out, err := s.tryDocker(append(what, "--filter", "label=com.docker.compose.project="+s.project)...)
		if err != nil || strings.TrimSpace(out) != "" {
			s.t.Errorf("left behind by %s: %s (%v)", what, out, err)
		}
	}
}

// try runs docker compose on the project. It outlives the test's context, to
// clean up.
func (s *stack) try(args ...string) (string, error) {
	head := []string{"compose", "-p", s.project, "--project-directory", s.dir}
	for _, f := range s.files {
		if !filepath.IsAbs(f) {
			f = filepath.Join(s.dir, f)
		}
		head = append(head, "-f", f)
	}
	return s.tryDocker(append(head, args...)...)
}

func (s *stack) tryDocker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Dir, cmd.Env = s.dir, s.environ
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, errs.String())
	}
	return out.String(), nil
}

func (s *stack) compose(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.try(args...)
	if err != nil {
		t.Fatalf("docker compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *stack) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.tryDocker(args...)
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// containers are the ids of a service's.
func (s *stack) containers(t *testing.T, service string) []string {
	t.Helper()
	return strings.Fields(s.compose(t, "ps", "-q", service))
}

// firstSteps are the commands that the demo's log shows.
func (s *stack) firstSteps(t *testing.T) []string {
	t.Helper()
	log := s.compose(t, "logs", "--no-log-prefix", "--no-color", "demo")
	steps := regexp.MustCompile(`(?m)^  (curl .*)$`).FindAllStringSubmatch(log, -1)
	if len(steps) < 2 {
		t.Fatalf("the demo's log shows no commands:\n%s", log)
	}
	var all []string
	for _, m := range steps[len(steps)-2:] {
		all = append(all, m[1])
	}
	s.password = regexp.MustCompile(`"password":"([^"]+)"`).FindStringSubmatch(all[0])[1]
	return all
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, strings.TrimSpace(a.body)) }

// ask sends one request; nothing is tried again.
func (s *stack) ask(method, path, token, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(context.Background(), method, s.gateway+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	client := &http.Client{Timeout: 30 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	client.CloseIdleConnections()
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

func (s *stack) asks(t *testing.T, method, path, token, body string, headers ...string) answer {
	t.Helper()
	a, err := s.ask(method, path, token, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// signIn is the demo user's new token.
func (s *stack) signIn(t *testing.T) string {
	t.Helper()
	a := s.asks(t, http.MethodPost, "/api/v1/users/login", "", `{"email":"demo@example.com","password":"`+s.password+`"}`)
	var session struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &session); err != nil || session.Token == "" {
		t.Fatalf("login: %s", a)
	}
	return session.Token
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within 90 s: %s", what)
		case <-tick.C:
		}
	}
}
