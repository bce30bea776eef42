package compose

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echoed is what a demo upstream answers.
type echoed struct {
	Headers map[string][]string `json:"headers"`
}

// TestTheComposeFile goes through the life of one stack; each step stands on the
// one before.
func TestTheComposeFile(t *testing.T) {
	if os.Getenv("GATEHOUSE_COMPOSE") == "" {
		t.Skip("needs a Docker engine: make test-compose")
	}
	s := newStack(t)
	step := func(name string, do func(*testing.T)) {
		if !t.Failed() {
			t.Run(name, do)
		}
	}
	step("it comes up from nothing", s.comesUp)
	step("the printed commands work as they stand", s.firstCommandsWork)
	step("a forged identity arrives nowhere", s.forgedIdentity)
	step("containers are hardened and Envoy alone is published", s.hardened)
	step("secrets are in files, and in no environment", s.secretsAreInFiles)
	step("Envoy's admin page is reached by nobody but Prometheus", s.adminIsApart)
	step("Prometheus sees all parts and has the rules", s.prometheusSeesAll)
	step("both authz are asked", s.bothAreAsked)
	step("a logout is refused afterwards", s.logout)
	step("a disabled user is refused, as every replica confirms", s.disabled)
	step("an authz that is killed fails no request", s.killed)
	step("a second start changes nothing", s.secondStart)
	step("Grafana has the dashboard", s.grafana)
	step("the override of the manual brings a route table and keys", s.override)
}

func (s *stack) comesUp(t *testing.T) {
	begin := time.Now()
	s.compose(t, "build")
	built := time.Now()
	s.compose(t, "up", "--build", "--wait")
	t.Logf("images built in %.1f s, up and healthy in %.1f s", built.Sub(begin).Seconds(), time.Since(built).Seconds())
	if n := len(s.containers(t, "authz")); n != 2 {
		t.Errorf("%d authz, want 2", n)
	}
}

func (s *stack) firstCommandsWork(t *testing.T) {
	steps := s.firstSteps(t)
	for i, want := range []string{`"access_token":"`, `"service": "query"`} {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", steps[i])
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s\n%s (%v), want %s", steps[i], out, err, want)
		}
	}
}

func (s *stack) forgedIdentity(t *testing.T) {
	token := s.signIn(t)
	a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, "",
		"X-User-ID", "forged", "x_user_id", "forged", "X-Company-Id", "forged", "X-User-Email", "forged@example.com", "x.user.id", "forged")
	var got echoed
	if err := json.Unmarshal([]byte(a.body), &got); a.status != http.StatusOK || err != nil {
		t.Fatalf("the call: %s", a)
	}
	if strings.Contains(a.body, "forged") {
		t.Errorf("something forged arrived: %s", a.body)
	}
	if email := got.Headers["X-User-Email"]; !slices.Equal(email, []string{"demo@example.com"}) {
		t.Errorf("X-User-Email = %q", email)
	}
	if len(got.Headers["X-User-Id"]) != 1 || len(got.Headers["X-Company-Id"]) != 1 || len(got.Headers["Authorization"]) != 0 {
		t.Errorf("headers = %v", got.Headers)
	}
	if a := s.asks(t, http.MethodGet, "/api/v1/query/hello", "", "", "X-User-ID", "forged"); a.status != http.StatusUnauthorized || a.body != `{"detail":"Not authenticated"}` {
		t.Errorf("without a token: %s", a)
	}
}

// inspected is what the engine says of a container.
type inspected struct {
	Name   string
	Config struct {
		User   string
		Env    []string
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs bool
		CapDrop        []string
		SecurityOpt    []string
		PortBindings   map[string][]struct{ HostIp, HostPort string }
	}
}

func (s *stack) inspect(t *testing.T) (all []inspected) {
	t.Helper()
	ids := strings.Fields(s.compose(t, "ps", "-aq"))
	if err := json.Unmarshal([]byte(s.docker(t, append([]string{"inspect"}, ids...)...)), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func (s *stack) hardened(t *testing.T) {
	for _, c := range s.inspect(t) {
		service := c.Config.Labels["com.docker.compose.service"]
		if !slices.Contains(c.HostConfig.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may gain privileges", c.Name)
		}
		if service != "envoy" && len(c.HostConfig.PortBindings) > 0 {
			t.Errorf("%s is published", c.Name)
		}
		for _, at := range c.HostConfig.PortBindings {
			if len(at) != 1 || at[0].HostIp != "127.0.0.1" {
				t.Errorf("%s is published at %v", c.Name, at)
			}
		}
		if service == "postgres" { // becomes its own user by itself
			continue
		}
		if !c.HostConfig.ReadonlyRootfs || !slices.Equal(c.HostConfig.CapDrop, []string{"ALL"}) {
			t.Errorf("%s may write its file system, or keeps capabilities", c.Name)
		}
		if c.Config.User != "65532:65532" {
			t.Errorf("%s runs as %q", c.Name, c.Config.User)
		}
	}
	for _, image := range []string{"authz", "login", "gatehouse"} {
		var labels map[string]string
		name := "ghcr.io/atenex/gatehouse/" + image + ":" + s.project
		if err := json.Unmarshal([]byte(s.docker(t, "image", "inspect", "-f", "{{json .Config.Labels}}", name)), &labels); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"title", "description", "source", "licenses", "version", "revision", "created"} {
			if labels["org.opencontainers.image."+want] == "" {
				t.Errorf("the image of %s has no label %s", image, want)
			}
		}
		if out, err := s.tryDocker("run", "--rm", "--entrypoint", "/bin/sh", name, "-c", "true"); err == nil {
			t.Errorf("the image of %s has a shell: %s", image, out)
		}
	}
}

func (s *stack) secretsAreInFiles(t *testing.T) {
	// The user that the official image becomes must be able to read it.
	password := strings.TrimSpace(s.compose(t, "exec", "-T", "-u", "postgres", "postgres", "cat", "/secrets/database/postgres_password"))
	if len(password) < 32 {
		t.Errorf("a password of %d characters", len(password))
	}
	if out, err := s.try("exec", "-T", "postgres", "ls", "/secrets/tokens"); err == nil {
		t.Errorf("PostgreSQL has the token secret: %s", out)
	}
	for _, c := range s.inspect(t) {
		for _, entry := range c.Config.Env {
			name, value, _ := strings.Cut(entry, "=")
			if value != "" && (value == password || name == "GATEWAY_JWT_SECRET" || strings.HasSuffix(name, "POSTGRES_PASSWORD")) {
				t.Errorf("%s has a secret in its environment: %s", c.Name, name)
			}
		}
	}
	if logs := s.compose(t, "logs", "--no-color"); strings.Contains(logs, password) {
		t.Error("the database's password is in a log")
	}
}

func (s *stack) adminIsApart(t *testing.T) {
	image := strings.TrimSpace(s.docker(t, "inspect", "-f", "{{.Config.Image}}", s.containers(t, "envoy")[0]))
	reach := func(network, at string) bool {
		_, err := s.tryDocker("run", "--rm", "--network", s.project+"_"+network, "--entrypoint", "timeout", image,
			"3", "bash", "-c", "</dev/tcp/"+strings.ReplaceAll(at, ":", "/"))
		return err == nil
	}
	if !reach("default", "172.30.81.10:8080") || !reach("metrics", "172.30.82.10:9901") {
		t.Error("the probe reaches nothing: it shows nothing")
	}
	for _, at := range []string{"172.30.81.10:9901", "172.30.82.10:9901"} {
		if reach("default", at) {
			t.Errorf("an upstream reaches Envoy's admin page at %s", at)
		}
	}
}

func (s *stack) logout(t *testing.T) {
	token := s.signIn(t)
	if a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, ""); a.status != http.StatusOK {
		t.Fatalf("before: %s", a)
	}
	if a := s.asks(t, http.MethodPost, "/api/v1/users/logout", token, ""); a.status != http.StatusNoContent {
		t.Fatalf("logout: %s", a)
	}
	eventually(t, "the logout is refused", func() bool {
		a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, "")
		return a.status == http.StatusUnauthorized && a.body == `{"detail":"Token has been revoked."}`
	})
}

func (s *stack) disabled(t *testing.T) {
	token := s.signIn(t)
	s.asks(t, http.MethodGet, "/api/v1/query/hello", token, "")
	// On its standard error, because it is no result: one stream is enough here.
	out := s.compose(t, "run", "--rm", "-T", "gatehouse", "user", "disable", "demo@example.com")
	if !strings.Contains(out, "confirmed by 2 of 2 authz replicas") {
		t.Errorf("the command said: %s", out)
	}
	for range 10 { // either replica
		if a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, ""); a.status != http.StatusUnauthorized || a.body != `{"detail":"User associated with token is inactive."}` {
			t.Errorf("afterwards: %s", a)
		}
	}
	s.compose(t, "run", "--rm", "-T", "gatehouse", "user", "enable", "demo@example.com")
	if a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, ""); a.status != http.StatusOK {
		t.Errorf("enabled again: %s", a)
	}
}

func (s *stack) killed(t *testing.T) {
	token := s.signIn(t)
	var asked, failed atomic.Int64
	var first atomic.Value
	stop := make(chan struct{})
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := s.ask(http.MethodGet, "/api/v1/query/hello", token, "")
				asked.Add(1)
				if err != nil || a.status != http.StatusOK {
					failed.Add(1)
					first.CompareAndSwap(nil, a.String())
				}
			}
		})
	}
	some := func(n int64) {
		until := asked.Load() + n
		eventually(t, "requests are answered", func() bool { return asked.Load() >= until })
	}
	victim := s.containers(t, "authz")[0]
	some(200)
	s.docker(t, "kill", victim)
	some(600)
	s.docker(t, "start", victim)
	eventually(t, "it is healthy again", func() bool {
		return strings.TrimSpace(s.docker(t, "inspect", "-f", "{{.State.Health.Status}}", victim)) == "healthy"
	})
	some(400)
	close(stop)
	done.Wait()
	t.Logf("%d requests, %d failed", asked.Load(), failed.Load())
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed, the first with %v", failed.Load(), asked.Load(), first.Load())
	}
}

func (s *stack) secondStart(t *testing.T) {
	token, password := s.signIn(t), s.password
	s.compose(t, "stop")
	begin := time.Now()
	s.compose(t, "up", "--wait")
	t.Logf("stopped and up again in %.1f s", time.Since(begin).Seconds())
	if a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, ""); a.status != http.StatusOK {
		t.Errorf("a token from before: %s", a)
	}
	if s.firstSteps(t); s.password != password {
		t.Error("the demo user has another password")
	}
}

func (s *stack) override(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "compose.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- as: docker-compose.override.yaml -->\n```yaml\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("the manual has no override")
	}
	token := s.signIn(t)
	// Relative names in an override are of the project's directory, which here is
	// the repository: what it mounts lies elsewhere instead.
	dir := s.t.TempDir() // for as long as the project
	text := strings.ReplaceAll(string(block[1]), "./", dir+"/")
	override := filepath.Join(dir, "override.yaml")
	table, err := os.ReadFile(filepath.Join(root, "envoy", "routes", "explicit.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{override: text, filepath.Join(dir, "routes.yaml"): string(table)} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(keys, 65532, 65532); err != nil {
		t.Skipf("only root can give a directory away: %v", err)
	}
	s.files = append(s.files, override)
	kid := strings.TrimSpace(s.compose(t, "run", "--rm", "-T", "--no-deps", "gatehouse", "key", "generate", "--set", "--out", "/keys/keys.json"))
	s.compose(t, "up", "--wait")
	if a := s.asks(t, http.MethodGet, "/.well-known/jwks.json", "", ""); kid == "" || !strings.Contains(a.body, kid) {
		t.Errorf("the key %s is not published: %s", kid, a)
	}
	if a := s.asks(t, http.MethodGet, "/api/v1/query/chats", s.signIn(t), ""); a.status != http.StatusOK {
		t.Errorf("a token of the new key: %s", a)
	}
	if a := s.asks(t, http.MethodGet, "/api/v1/query/chats", token, ""); a.status != http.StatusOK {
		t.Errorf("a token of the secret: %s", a)
	}
	if a := s.asks(t, http.MethodGet, "/api/v1/query/hello", token, ""); a.status != http.StatusNotFound {
		t.Errorf("a path that the table does not have: %s", a)
	}
}
