package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// inForce is how soon after the command a new table is.
const inForce = 2 * time.Second

// reloading is a gate whose Envoy watches the files of a directory.
type reloading struct {
	*stack
	t       *testing.T
	dir     string
	table   string // the file of the operator
	admin   string
	reports *upstream
}

func startReloading(t *testing.T) *reloading {
	t.Helper()
	dir := t.TempDir()
	r := &reloading{t: t, dir: filepath.Join(dir, "envoy"), table: filepath.Join(dir, "routes.yaml"), reports: newUpstream(t)}
	r.stack = newStack(t, postgrestest.New(t), underLoad)
	r.settings["GATEWAY_ROUTES"] = r.table
	r.admin = "http://" + r.settings["GATEWAY_ENVOY_ADMIN_LISTEN"]
	r.write("", "")
	r.command("migrate")
	r.startAuthz()
	r.startLogin()
	if got, want := r.command("envoy", "render", "--split", r.dir), "changes: all files are new\n"; got != want {
		t.Fatalf("render printed %q, want %q", got, want)
	}
	binary, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	r.envoyProcess = r.start("envoy", binary.Path, []string{
		"-c", filepath.Join(r.dir, "bootstrap.yaml"), "--use-dynamic-base-id", "--concurrency", "2", "--log-level", "warn",
	}, r.envoyLog)
	r.await("Envoy", r.admin+"/ready")
	eventually(t, "the gate answers from authz", func() error { return r.get(strictRoute, nil).is(http.StatusUnauthorized) })
	return r
}

// write makes a table: the shipped one with this upstream and this route on top.
func (r *reloading) write(upstream, route string) {
	r.t.Helper()
	shipped, err := os.ReadFile(filepath.Join("..", "..", "envoy", "routes", "prefix.yaml"))
	if err != nil {
		r.t.Fatal(err)
	}
	table := strings.Replace(string(shipped), "\nupstreams:\n", "\nupstreams:\n"+upstream, 1) + route
	if err := os.WriteFile(r.table, []byte(table), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// swap renders the table that was written last and returns what was printed.
func (r *reloading) swap() string {
	r.t.Helper()
	return r.command("envoy", "render", "--split", r.dir, "--envoy-admin", r.admin)
}

// refused renders it to no avail, and returns what was said.
func (r *reloading) refused(code int) string {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "gatehouse"), "envoy", "render", "--split", r.dir, "--envoy-admin", r.admin)
	cmd.Env, cmd.Dir = r.environ(), r.t.TempDir()
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		r.t.Errorf("render ended with %d, want %d: %s", got, code, out)
	}
	return string(out)
}

// files are those of the directory, whatever they are.
func (r *reloading) files() map[string]string {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(r.dir, e.Name()))
		if err != nil {
			r.t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// asked is what Envoy's admin interface answers.
func (r *reloading) asked(path string) string {
	r.t.Helper()
	a, err := http.Get(r.admin + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// counted is a figure of Envoy's own.
func (r *reloading) counted(name string) string {
	r.t.Helper()
	_, value, _ := strings.Cut(strings.TrimSpace(r.asked("/stats?filter=^"+strings.ReplaceAll(name, ".", `\.`)+"$")), ": ")
	return value
}

// admitted is how many connections a cluster of this name may have, by the
// configuration in force.
func (r *reloading) admitted(cluster string) string {
	r.t.Helper()
	_, rest, _ := strings.Cut(r.asked("/clusters"), cluster+"::default_priority::max_connections::")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// course is what one path answered, without repetitions: 404, 200.
type course struct {
	mu   sync.Mutex
	seen []int
	errs []error
}

// follow asks for a path all the time.
func (r *reloading) follow(path, raw string) (c *course, stop func()) {
	r.t.Helper()
	c, done := &course{}, make(chan struct{})
	var running sync.WaitGroup
	own := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	running.Go(func() {
		defer own.CloseIdleConnections()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			c.note(own, r.gateway+path, raw)
		}
	})
	return c, sync.OnceFunc(func() { close(done); running.Wait() })
}

func (c *course) note(client *http.Client, url, raw string) {
	status := 0
	q, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err == nil {
		q.Header = bearer(raw)
		var a *http.Response
		if a, err = client.Do(q); err == nil {
			status = a.StatusCode
			_, err = io.Copy(io.Discard, a.Body)
			_ = a.Body.Close()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, err)
	} else if n := len(c.seen); n == 0 || c.seen[n-1] != status {
		c.seen = append(c.seen, status)
	}
}

func (c *course) is(want ...int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.errs) > 0 || fmt.Sprint(c.seen) != fmt.Sprint(want) {
		return fmt.Errorf("answered %v, want %v: %w", c.seen, want, errors.Join(c.errs...))
	}
	return nil
}

// stream is one of events that is held open; the rest of it comes on demand.
func (r *reloading) stream(path, raw string) (goesOn func() error) {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.gateway+path, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header = bearer(raw)
	a, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = a.Body.Close() })
	lines := bufio.NewReader(a.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "data: first\n" {
		r.t.Fatalf("the stream begins with %q, %v", line, err)
	}
	return func() error {
		select {
		case r.reports.hold <- struct{}{}:
		case <-time.After(patience):
			return errors.New("the upstream's side of the stream has ended")
		}
		rest, err := io.ReadAll(lines)
		if err == nil && string(rest) != "\ndata: second\n\n" {
			err = fmt.Errorf("the stream goes on with %q", rest)
		}
		return err
	}
}

// TestATableChangesWithoutALostRequest swaps tables under an Envoy that works:
// hundreds of checks a second, logins, a WebSocket, a stream and an upload go on
// through all of it on connections that Envoy never closes.
func TestATableChangesWithoutALostRequest(t *testing.T) {
	t.Parallel()
	r := startReloading(t)
	member, loner := r.newMember(), r.newUser("")
	raw, companyless := token(t, claimsOf(member)), token(t, claimsOf(loner))
	upstream := "  reports: { url: \"" + r.reports.URL + "\" }\n"
	route := func(more string) string {
		return "  - { name: reports, prefix: /reports, methods: [GET], upstream: reports, " + more + " }\n"
	}
	load := (&rollout{stack: r.stack}).load(t)
	load.flows()

	added, stop := r.follow("/reports/x", raw)
	defer stop()
	eventually(t, "there is nothing yet", func() error { return added.is(404) })
	r.write(upstream, route("mode: strict, websocket: true"))
	if got := r.swap(); got != "changes: clusters, routes\n" {
		t.Errorf("an upstream and a route more: printed %q", got)
	}
	within(t, inForce, "the new route leads to the new upstream", func() error { return added.is(404, 200) })
	stop()
	goesOn := r.stream("/reports/x?do=stream", raw)

	for _, c := range []struct {
		name     string
		upstream string
		route    string
		printed  string
		want     func() error
	}{
		{"strict becomes initial", upstream, route("mode: initial, websocket: true"), "routes only", func() error {
			return r.get("/reports/x", bearer(companyless)).is(http.StatusOK)
		}},
		{"initial becomes strict again, for a role", upstream, route("mode: strict, roles: [admin], websocket: true"), "routes only", func() error {
			return errors.Join(r.get("/reports/x", bearer(raw)).is(http.StatusForbidden), r.get("/reports/x", bearer(companyless)).is(http.StatusForbidden))
		}},
		{"another time-out", upstream, route("mode: strict, timeouts: { total: 200ms }"), "routes only", func() error {
			return r.get("/reports/x?do=silence", bearer(raw)).is(http.StatusGatewayTimeout)
		}},
		// These filters stand in the listener only where a table asks for them, without
		// --split: here no connection knows of it.
		{"a limit on bodies, forwarded headers", upstream, route("mode: strict, max_body: 1KiB, headers: { forward: [accept] }"), "routes only", func() error {
			a := r.do(http.MethodGet, "/reports/x", bearer(raw), strings.Repeat("x", 1025))
			return a.is(http.StatusRequestEntityTooLarge)
		}},
		{"bounds of an upstream that is in use", strings.Replace(upstream, " }", ", connections: { max: 7 } }", 1), route("mode: strict"), "clusters, routes", func() error {
			// Not how many remain: the cluster that leaves counts in the same figure
			// for as long as a stream keeps it.
			if got := r.admitted("reports"); got != "7" {
				return fmt.Errorf("%q connections at most, want 7", got)
			}
			return r.get("/reports/x", bearer(raw)).is(http.StatusOK)
		}},
	} {
		r.write(c.upstream, c.route)
		if got := r.swap(); got != "changes: "+c.printed+"\n" {
			t.Errorf("%s: printed %q, want %q", c.name, got, c.printed)
		}
		within(t, inForce, c.name, c.want)
	}
	if got := r.swap(); got != "changes: none\n" {
		t.Errorf("the same table again: printed %q", got)
	}

	r.keepsWhatItHas(upstream, route, raw)

	// The way back, by the clock.
	gone, stop := r.follow("/reports/x", raw)
	defer stop()
	eventually(t, "it is still there", func() error { return gone.is(200) })
	r.write("", "")
	if got := r.command("envoy", "render", "--split", r.dir, "--settle", "500ms"); got != "changes: clusters, routes\n" {
		t.Errorf("an upstream and a route less: printed %q", got)
	}
	within(t, inForce, "the route is gone, and nothing else was ever answered", func() error { return gone.is(200, 404) })
	stop()
	within(t, inForce, "the upstream is gone", func() error {
		if got := r.counted("cluster_manager.active_clusters"); got != "5" {
			return fmt.Errorf("%s clusters, want 5: authz, ingest, login, nowhere, query", got)
		}
		return nil
	})
	if err := goesOn(); err != nil {
		t.Errorf("the stream from an upstream that is no longer in the table: %v", err)
	}

	load.flows()
	if got := r.counted("listener_manager.listener_modified"); got != "0" {
		t.Errorf("the listener was replaced %s times", got)
	}
	// The request with a body that was too large may have cost its connection.
	if got := r.counted("http.edge.downstream_cx_destroy_local"); got != "0" && got != "1" {
		t.Errorf("Envoy closed %s connections", got)
	}
	load.end()
	load.unharmed(t)
}

// keepsWhatItHas tries three tables that are not to be: one with faults, one that
// Envoy refuses, and a file that somebody has spoilt by hand.
func (r *reloading) keepsWhatItHas(upstream string, route func(string) string, raw string) {
	t := r.t
	t.Helper()
	works := func() error { return r.get("/reports/x", bearer(raw)).is(http.StatusOK) }
	before := r.files()

	r.write(upstream, route("roles: [admin]"))
	if said := r.refused(2); !strings.Contains(said, `route "reports": mode is missing`) {
		t.Errorf("a table without a mode: said %q", said)
	}
	if now := r.files(); !maps.Equal(before, now) {
		t.Error("a table with faults has changed a file")
	}

	// Only Envoy's machine knows whether there is such a file.
	r.write("  reports: { url: \"https://localhost:1\", tls: { ca: "+filepath.Join(r.dir, "missing.pem")+" } }\n", route("mode: none"))
	if said := r.refused(1); !strings.Contains(said, "refuses cds.yaml (its log says why); the files are as they were") {
		t.Errorf("an upstream that Envoy refuses: said %q", said)
	}
	if now := r.files(); !maps.Equal(before, now) {
		t.Error("a table that Envoy refuses has stayed")
	}
	if err := works(); err != nil {
		t.Errorf("after a refusal: %v", err)
	}

	rejected := r.counted("http.edge.rds.edge.update_rejected")
	spoilt := strings.Replace(before["rds.yaml"], "[.][.]?(;", "[.][.]?((;", 1) // no expression any more
	if spoilt == before["rds.yaml"] {
		t.Fatal("there is nothing to spoil")
	}
	beside := filepath.Join(r.dir, "by-hand")
	if err := errors.Join(os.WriteFile(beside, []byte(spoilt), 0o600), os.Rename(beside, filepath.Join(r.dir, "rds.yaml"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Envoy counts what it refuses", func() error {
		if got := r.counted("http.edge.rds.edge.update_rejected"); got == rejected {
			return fmt.Errorf("%s refusals", got)
		}
		return nil
	})
	if err := works(); err != nil {
		t.Errorf("with a spoilt file: %v", err)
	}
	cmd := exec.Command(filepath.Join(binaries, "gatehouse"), "envoy", "validate", r.dir)
	cmd.Env, cmd.Dir = r.environ(), t.TempDir()
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("the spoilt files are found to be valid: %s", out)
	}
	r.write(strings.Replace(upstream, " }", ", connections: { max: 7 } }", 1), route("mode: strict"))
	if got := r.swap(); got != "changes: routes only\n" {
		t.Errorf("over a spoilt file: printed %q", got)
	}
	if now := r.files(); !maps.Equal(before, now) {
		t.Error("the spoilt file was not mended")
	}
}
