//go:build k8s

package k8s

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/tests/k8s/lab"
)

func TestEnvoyTakesWhatTheChartRenders(t *testing.T) {
	seen := 0
	for name, file := range examples(t) {
		list := render(t, "gate", "default", "-f", file)
		if !hasEnvoy(list) {
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, list, nil)
			e.issue(t)
			e.render(t)
			if out, err := exec.CommandContext(t.Context(), e.envoy, append(e.args, "--mode", "validate")...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			text, err := os.ReadFile(filepath.Join(e.dir, "config", "envoy.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"gate-gatehouse-authz-headless.default.svc.cluster.local", "gate-gatehouse-login-headless.default.svc.cluster.local",
			} {
				if !strings.Contains(string(text), want) {
					t.Errorf("the configuration does not know %s", want)
				}
			}
		})
	}
	if seen == 0 {
		t.Error("no example has an Envoy")
	}
}

// The probes and Prometheus see three pages, and nobody else's hand reaches the
// switches beside them.
func TestTheOpsPortShowsThreePages(t *testing.T) {
	e := startEdge(t, http.NotFoundHandler())
	for path, want := range map[string]int{
		"/live": 200, "/ready": 200, "/stats/prometheus": 200,
		"/": 404, "/stats": 404, "/healthcheck/fail": 404, "/drain_listeners": 404, "/ready/../healthcheck/fail": 404,
	} {
		if status, _ := get(t, e.ops+path); status != want {
			t.Errorf("GET %s = %d, want %d", path, status, want)
		}
	}
	if status, _ := ask(t, http.MethodPost, e.ops+"/ready"); status != http.StatusNotFound {
		t.Errorf("POST /ready = %d, want 404", status)
	}
	if _, body := get(t, e.ops+"/stats/prometheus"); !strings.Contains(body, "envoy_http_downstream_rq_total") {
		t.Error("no figures of Envoy's in /stats/prometheus")
	}
}

func TestTheDrainWaitsForRequestsUnderWay(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	e := startEdge(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			close(arrived)
			<-release
		}
		_, _ = io.WriteString(w, "here")
	}))
	kept := dial(t, e.public)
	if res := kept.get(t, "/health"); res.StatusCode != http.StatusOK || res.Close {
		t.Fatalf("before the drain: %d, connection closed: %v", res.StatusCode, res.Close)
	}
	slow := make(chan string, 1)
	go func() {
		_, body := get(t, "http://"+e.public+"/")
		slow <- body
	}()
	<-arrived

	drain := e.startDrain(t, "0", "60")
	eventually(t, "the pod to be unready", func() bool { status, _ := get(t, e.ops+"/ready"); return status == 503 })
	if status, _ := get(t, e.ops+"/live"); status != 200 {
		t.Errorf("/live = %d while draining, want 200: a kubelet must not kill it", status)
	}
	if res := kept.get(t, "/health"); res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("on a kept connection: %d, closed: %v; want an answer that ends it", res.StatusCode, res.Close)
	}
	for range 20 { // who has not heard yet is served
		if status, _ := get(t, "http://"+e.public+"/health"); status != 200 {
			t.Errorf("a new connection is answered %d while draining, want 200", status)
		}
	}
	select {
	case err := <-drain:
		t.Fatalf("the drain ended (%v) before the request under way", err)
	default:
	}
	close(release)
	if body := <-slow; body != "here" {
		t.Errorf("the request under way got %q", body)
	}
	if err := <-drain; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestTheDrainEndsInTimeWhateverIsUnderWay(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	e := startEdge(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	defer close(release)
	go get(t, "http://"+e.public+"/")
	<-arrived
	if err := <-e.startDrain(t, "0", "1"); err != nil {
		t.Errorf("drain: %v", err)
	}
}

// The pods of helm test, with a real authz behind Envoy and without one.
func TestHelmTestSeesWhetherTheGateStands(t *testing.T) {
	e := startEdge(t, http.NotFoundHandler())
	unauthorized := find(t, e.list, "Pod", "-test-envoy").pod(t).Containers[0]
	host, port, err := net.SplitHostPort(e.public)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := func() (string, error) {
		args := append([]string{unauthorized.Command[1]}, unauthorized.Args[:2]...)
		out, err := exec.CommandContext(t.Context(), unauthorized.Command[0], append(args, host, port)...).CombinedOutput()
		return string(out), err
	}
	health := find(t, e.list, "Pod", "-test-authz").pod(t).Containers[0]
	healthy := func() (string, int) {
		return e.run(t, "authz", e.environ(t, health, map[string]string{"GATEWAY_AUTHZ_OPS_LISTEN": e.authzOps}), health.Args...)
	}

	if out, err := anonymous(); err == nil || !strings.Contains(out, " 503 ") {
		t.Errorf("without authz: %v, want a failure over a 503:\n%s", err, out)
	}
	if out, code := healthy(); code != 1 {
		t.Errorf("healthcheck of nobody: code %d, want 1:\n%s", code, out)
	}
	e.startAuthz(t)
	eventually(t, "a 401 of authz's", func() bool { _, err := anonymous(); return err == nil })
	if out, code := healthy(); code != 0 {
		t.Errorf("healthcheck: code %d\n%s", code, out)
	}
}

// edge is what an Envoy pod of the chart would run.
type edge struct {
	*machine
	envoy string
	args  []string // of Envoy

	public, ops, admin, redirect string
	authz, authzOps              string

	ca authority

	overrides map[string]string // settings of the rendering
}

func hasEnvoy(list []object) bool {
	for _, o := range list {
		if o.Kind == "Deployment" && strings.HasSuffix(o.Metadata.Name, "-envoy") {
			return true
		}
	}
	return false
}

func newEdge(t *testing.T, list []object, overrides map[string]string) *edge {
	t.Helper()
	binary, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{machine: newMachine(t, list), envoy: binary.Path, overrides: overrides}
	for _, arg := range find(t, list, "Deployment", "-envoy").pod(t).Containers[0].Args {
		e.args = append(e.args, e.local(arg))
	}
	return e
}

// render runs the init container.
func (e *edge) render(t *testing.T) {
	t.Helper()
	init := find(t, e.list, "Deployment", "-envoy").pod(t).InitContainers[0]
	if out, code := e.run(t, "gatehouse", e.environ(t, init, e.overrides), init.Args...); code != 0 || out != "" {
		t.Fatalf("rendering: code %d\n%s", code, out)
	}
}

// startEdge runs Envoy as the chart would, on free ports, with a handler in login's
// place and nobody in authz'.
func startEdge(t *testing.T, login http.Handler) *edge {
	t.Helper()
	return startExample(t, "envoy", login)
}

// startExample is startEdge of an example.
func startExample(t *testing.T, name string, login http.Handler) *edge {
	t.Helper()
	people := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" { // which Envoy asks every second
			login.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(people.Close)
	list := render(t, "gate", "default", "-f", examples(t)[name],
		"--set", "config.INGEST_SERVICE_URL=http://127.0.0.1:1,config.QUERY_SERVICE_URL=http://127.0.0.1:1,config.AUTH_SERVICE_URL=",
		// authz then needs no database.
		"--set", "config.TOKEN_PROFILE=supabase,config.USER_CHECK=off")
	ports, err := lab.FreePorts(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	e := newEdge(t, list, map[string]string{
		"GATEWAY_LISTEN":             ports[0],
		"GATEWAY_ENVOY_ADMIN_LISTEN": ports[1],
		"GATEWAY_AUTHZ_LISTEN":       ports[3],
		"GATEWAY_LOGIN_LISTEN":       people.Listener.Addr().String(),
		// Only where the example has one.
		"GATEWAY_TLS_REDIRECT_LISTEN": ports[5],
	})
	e.public, e.admin, e.ops, e.authz, e.authzOps, e.redirect = ports[0], ports[1], "http://"+ports[2], ports[3], ports[4], ports[5]
	e.issue(t)
	e.render(t)
	for i, arg := range e.args {
		e.args[i] = strings.NewReplacer(
			"0.0.0.0, port_value: 9902", "127.0.0.1, port_value: "+port(ports[2]),
			"port_value: 9901", "port_value: "+port(e.admin),
		).Replace(arg)
	}
	e.start(t, e.envoy, nil, e.args...)
	eventually(t, "Envoy to be ready", func() bool { status, _ := get(t, e.ops+"/ready"); return status == 200 })
	return e
}

func (e *edge) startAuthz(t *testing.T) {
	t.Helper()
	c := find(t, e.list, "Deployment", "-authz").pod(t).Containers[0]
	e.start(t, filepath.Join(grounds.binaries, "authz"),
		e.environ(t, c, map[string]string{"GATEWAY_AUTHZ_LISTEN": e.authz, "GATEWAY_AUTHZ_OPS_LISTEN": e.authzOps}), "-drain", "0s")
}

// start runs a program until the end of the test, and shows its log if that fails.
func (e *edge) start(t *testing.T, path string, environ []string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(e.dir, filepath.Base(path)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = e.dir, environ, log, log
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("%s:\n%s", log.Name(), text)
		}
	})
}

// startDrain runs what a kubelet would before it stops the container.
func (e *edge) startDrain(t *testing.T, least, most string) <-chan error {
	t.Helper()
	command := find(t, e.list, "Deployment", "-envoy").pod(t).Containers[0].Lifecycle.PreStop.Exec.Command
	if len(command) != 5 || command[2] != "9901" || command[3] != "20" || command[4] != "85" {
		t.Fatalf("preStop = %q, want bash, the script, the port, 20 and 85", command)
	}
	cmd := exec.CommandContext(t.Context(), command[0], e.local(command[1]), port(e.admin), least, most)
	ended := make(chan error, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		if len(out) > 0 {
			t.Errorf("the drain complains: %s", out)
		}
		ended <- err
	}()
	return ended
}

// connection is one that is kept.
type connection struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, address string) connection {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return connection{c, bufio.NewReader(c)}
}

func (c connection) get(t *testing.T, path string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: gate\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	return ask(t, http.MethodGet, url)
}

// ask asks on a connection of its own; 0 is no answer.
func ask(t *testing.T, method, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	res, err := (&http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(text)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for %s", what)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func port(address string) string { return address[strings.LastIndex(address, ":")+1:] }
