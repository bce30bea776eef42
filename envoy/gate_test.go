package envoy_test

import (
	"bufio"
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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/devstack"
)

// patience bounds every wait for something that is bound to happen.
const patience = time.Minute

// envoyBinary is looked for once for all tests.
var envoyBinary = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	b, err := devstack.EnvoyBinary(ctx, devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	return b.Path, err
})

func binary(t *testing.T) string {
	t.Helper()
	path, err := envoyBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// gate is a running Envoy with everything that stands behind it.
type gate struct {
	addr  string // host:port
	admin string // http://host:port
	authz *authz
	log   string // file of the access log
	ups   map[string]*upstream
}

// options of a gate; the zero value is the table "prefix" with everything as in
// production but the ports.
type options struct {
	table     func(*routes.Table)
	tableName string
	settings  func(*envoy.Settings)
	bootstrap func(*bootstrapv3.Bootstrap)
	authz     *authz // nil: one of its own
	noAuth    bool   // no auth service is configured
	inTime    bool   // a decision has the time that it has as shipped
}

var authzTimeout = regexp.MustCompile(`(?m)^( +)timeout: 2s$`)

// shared is one gate for all tests that need nothing special. It lives as long
// as the test binary; TestMain stops it.
var shared struct {
	sync.Mutex
	gate  *gate
	stops []func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range slices.Backward(shared.stops) {
		stop()
	}
	os.Exit(code)
}

func sharedGate(t *testing.T) *gate {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.gate == nil {
		// It outlives the test that happens to make it.
		dir, err := os.MkdirTemp("", "gatehouse-envoy-test-") //nolint:usetesting // see above
		if err != nil {
			t.Fatal(err)
		}
		shared.stops = append(shared.stops, func() { os.RemoveAll(dir) })
		shared.gate = openGate(t, options{}, dir, func(stop func()) { shared.stops = append(shared.stops, stop) })
	}
	return shared.gate
}

func newGate(t *testing.T, o options) *gate {
	t.Helper()
	return openGate(t, o, t.TempDir(), t.Cleanup)
}

func openGate(t *testing.T, o options, dir string, cleanup func(func())) *gate {
	t.Helper()
	g := &gate{authz: o.authz, ups: map[string]*upstream{}, log: filepath.Join(dir, "envoy.out")}
	if g.authz == nil {
		g.authz = startAuthz(t, "127.0.0.1:0", cleanup)
	}
	for _, name := range []string{"ingest", "query", "login", "auth"} {
		g.ups[name] = startUpstream(t, name, cleanup)
	}
	if o.tableName == "" {
		o.tableName = "prefix"
	}
	table, err := routes.Load(o.tableName)
	if err != nil {
		t.Fatal(err)
	}
	s := envoy.DefaultSettings()
	s.Listen, s.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	s.Authz = g.authz.target()
	s.IngestURL, s.QueryURL, s.LoginURL = g.ups["ingest"].url(), g.ups["query"].url(), g.ups["login"].url()
	if !o.noAuth {
		s.AuthURL = g.ups["auth"].url()
	}
	s.LoginRate = routes.Rate{}
	if o.table != nil {
		o.table(&table)
	}
	if o.settings != nil {
		o.settings(&s)
	}
	b, err := envoy.Bootstrap(table, s)
	if err != nil {
		t.Fatal(err)
	}
	if o.bootstrap != nil {
		o.bootstrap(b)
	}
	config, err := envoy.YAML(b)
	if err != nil {
		t.Fatal(err)
	}
	// How long a decision may take is not what these tests are about, and a busy
	// machine may take longer. A test may have taken the question away altogether.
	if o.bootstrap == nil && !authzTimeout.Match(config) {
		t.Fatal("the configuration bounds no decision")
	}
	if !o.inTime {
		config = authzTimeout.ReplaceAll(config, []byte("${1}timeout: 60s"))
	}
	startEnvoy(t, g, dir, config, cleanup)
	return g
}

// startEnvoy runs Envoy on the configuration and waits until it is ready.
func startEnvoy(t *testing.T, g *gate, dir string, config []byte, cleanup func(func())) {
	t.Helper()
	file := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	errs, err := os.Create(filepath.Join(dir, "envoy.err"))
	if err != nil {
		t.Fatal(err)
	}
	adminFile := filepath.Join(dir, "admin")
	cmd := exec.Command(binary(t), "-c", file, "--use-dynamic-base-id", "--concurrency", "1",
		"--admin-address-path", adminFile, "--log-level", "warning", "--file-flush-interval-msec", "50")
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		out.Close()
		errs.Close()
	})
	poll(t, "Envoy to be ready", func() bool {
		select {
		case <-done:
			said, _ := os.ReadFile(errs.Name())
			t.Fatalf("Envoy ended:\n%s", said)
		default:
		}
		addr, err := os.ReadFile(adminFile)
		if err != nil || len(addr) == 0 {
			return false
		}
		g.admin = "http://" + strings.TrimSpace(string(addr))
		res, err := http.Get(g.admin + "/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	g.addr = g.listeners(t)["edge"]
}

// listeners asks the admin interface for the addresses that the gate was given, by
// the names of the listeners.
func (g *gate) listeners(t *testing.T) map[string]string {
	t.Helper()
	res, err := http.Get(g.admin + "/listeners?format=json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var list struct {
		ListenerStatuses []struct {
			Name         string `json:"name"`
			LocalAddress struct {
				SocketAddress struct {
					Address   string `json:"address"`
					PortValue int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil || len(list.ListenerStatuses) == 0 {
		t.Fatalf("listeners: %v %+v", err, list)
	}
	out := map[string]string{}
	for _, l := range list.ListenerStatuses {
		a := l.LocalAddress.SocketAddress
		out[l.Name] = fmt.Sprintf("%s:%d", a.Address, a.PortValue)
	}
	return out
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

// detail is the body that the gate's own answer of this text has.
func detail(text string) string {
	b, _ := json.Marshal(map[string]string{"detail": text})
	return string(b)
}

// echo is what the upstream says it received.
func (a answer) echo(t *testing.T) echo {
	t.Helper()
	var e echo
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		t.Fatalf("no echo of an upstream: status %d, body %q", a.status, a.body)
	}
	return e
}

// client never follows, never compresses and keeps no connection, so that each
// request is on its own.
var client = &http.Client{
	Timeout:       patience,
	Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends a request whose headers are given as "Name: value".
func (g *gate) do(t *testing.T, method, path string, headers ...string) answer {
	t.Helper()
	return g.send(t, method, path, nil, headers...)
}

func (g *gate) send(t *testing.T, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.addr+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: reading: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, string(got)}
}

// raw sends bytes that no honest client would and reads one answer.
func (g *gate) raw(t *testing.T, request string) answer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", g.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// request writes a raw HTTP/1.1 request line and headers.
func request(line string, headers ...string) string {
	return line + " HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n" + strings.Join(append(headers, "", ""), "\r\n")
}

// logged waits for the access-log line of a request id.
func (g *gate) logged(t *testing.T, id string) map[string]any {
	t.Helper()
	var found map[string]any
	poll(t, "the access log of "+id, func() bool {
		data, err := os.ReadFile(g.log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var entry map[string]any
			if json.Unmarshal(line, &entry) == nil && entry["request_id"] == id {
				found = entry
				return true
			}
		}
		return false
	})
	return found
}
