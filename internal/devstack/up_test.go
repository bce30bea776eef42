package devstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/atenex/gatehouse/internal/devstack"
)

// service plays authz or login: it listens, says where, answers /readyz,
// /health and gRPC health, and behaves as its mode says.
func service() int {
	fields := strings.Fields(os.Getenv(helperEnv))
	name, mode := fields[1], fields[2]
	readyFile := flag.String("ready-file", "", "")
	flag.Parse()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	mux := http.NewServeMux()
	switch mode {
	case "broken":
		fmt.Fprintln(os.Stderr, "GATEWAY_JWT_SECRET: required")
		return 2
	case "unready":
		mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the keys are missing", http.StatusServiceUnavailable)
		})
	default:
		mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	}
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if said := r.URL.Query().Get("say"); said != "" {
			fmt.Println(said)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"pid": os.Getpid(), "database": os.Getenv("GATEWAY_DATABASE_URL")})
	})
	addresses := map[string]string{name: "http://" + l.Addr().String(), name + "_ops": "http://" + l.Addr().String()}
	if name == "authz" {
		g, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 1
		}
		server := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(server, health.NewServer())
		go func() { _ = server.Serve(g) }()
		addresses["authz_grpc"] = g.Addr().String()
	}
	text, _ := json.Marshal(addresses)
	if err := os.WriteFile(*readyFile+".new", text, 0o600); err != nil {
		return 1
	}
	if err := os.Rename(*readyFile+".new", *readyFile); err != nil {
		return 1
	}
	fmt.Println("serving")
	fmt.Println(`{"level":"WARN","msg":"look here"}`)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	_ = server.Serve(l)
	return 0
}

// render is an Envoy that passes /health to login and the rest to the query
// upstream.
func render(a devstack.Addresses) ([]byte, error) {
	cluster := func(name, address string) string {
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(address, "http://"))
		return fmt.Sprintf(`{"name":%q,"connect_timeout":"2s","type":"STATIC","load_assignment":{"cluster_name":%q,"endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":%q,"port_value":%s}}}}]}]}}`, name, name, host, port)
	}
	host, port, err := net.SplitHostPort(a.Public)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"admin":{"address":{"socket_address":{"address":"127.0.0.1","port_value":0}}},
"static_resources":{"clusters":[%s,%s],"listeners":[{"name":"edge","address":{"socket_address":{"address":%q,"port_value":%s}},
"filter_chains":[{"filters":[{"name":"hcm","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
"stat_prefix":"edge","route_config":{"virtual_hosts":[{"name":"all","domains":["*"],"routes":[
{"match":{"path":"/health"},"route":{"cluster":"login"}},{"match":{"prefix":"/"},"route":{"cluster":"query"}}]}]},
"http_filters":[{"name":"router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}}`,
		cluster("login", a.Login), cluster("query", a.Query), host, port), nil
}

func options(t *testing.T, state string) devstack.UpOptions {
	t.Helper()
	play := func(name, mode string) devstack.Service {
		return devstack.Service{Path: os.Args[0], Env: func(a devstack.Addresses) []string {
			return []string{helperEnv + "=service " + name + " " + mode, "GATEWAY_DATABASE_URL=" + a.Database}
		}}
	}
	return devstack.UpOptions{
		StateDir: state, Listen: "127.0.0.1:0", ReadyFile: filepath.Join(t.TempDir(), "ready.json"),
		Find:          devstack.FindOptions{EnvoyBin: machineEnvoy(t).Path, PostgresBin: machinePostgres(t).Path},
		DemoUpstreams: true,
		Migrate:       func(context.Context, string) error { return nil },
		Authz:         play("authz", "good"), Login: play("login", "good"),
		RenderEnvoy: render,
	}
}

// running is an Up under way.
type running struct {
	ready  devstack.Ready
	cancel context.CancelFunc
	ended  chan error
	output *output
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func up(t *testing.T, o devstack.UpOptions) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{cancel: cancel, ended: make(chan error, 1), output: &output{}}
	o.Output = r.output
	ready := make(chan devstack.Ready, 1)
	o.OnReady = func(at devstack.Ready) { ready <- at }
	go func() { r.ended <- devstack.Up(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.ended:
			if err != nil {
				t.Errorf("the end of up: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("up does not end")
		}
	})
	select {
	case r.ready = <-ready:
	case err := <-r.ended:
		r.ended <- nil
		t.Fatalf("up: %v\n%s", err, r.output)
	case <-time.After(90 * time.Second):
		t.Fatalf("up is never ready\n%s", r.output)
	}
	return r
}

// end waits for the end of up.
func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- nil // for the clean-up
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("up does not end")
		return nil
	}
}

func fetch(t *testing.T, method, url, body string, header http.Header) map[string]any {
	t.Helper()
	request, err := http.NewRequestWithContext(within(t, 10*time.Second), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%s %s: %d %s", method, url, answer.StatusCode, text)
	}
	return got
}

func TestUpRunsTheWholeStackAndStopsIt(t *testing.T) {
	state := stateDir(t)
	o := options(t, state)
	var migrated, seeded string
	o.Migrate = func(_ context.Context, url string) error { migrated = url; return nil }
	o.Seed = func(_ context.Context, url string) error { seeded = url; return nil }
	r := up(t, o)

	health := fetch(t, "GET", r.ready.Gateway+"/health", "", nil)
	if health["database"] != r.ready.DatabaseURL || migrated != r.ready.DatabaseURL || seeded != r.ready.DatabaseURL {
		t.Errorf("login uses %v, migrated %s, seeded %s, but up says %s", health["database"], migrated, seeded, r.ready.DatabaseURL)
	}
	if got := query(t, r.ready.DatabaseURL, "SELECT current_database()"); got != "atenex" {
		t.Errorf("the database is %q", got)
	}
	echo := fetch(t, "POST", r.ready.Gateway+"/api/v1/query/ask%20me?a=1", "12345", http.Header{"Authorization": {"Bearer test-secret"}, "X-Thing": {"a", "b"}})
	headers, _ := json.Marshal(echo["headers"])
	for _, want := range []string{`"Authorization":["Bearer [redacted]"]`, `"X-Thing":["a","b"]`} {
		if !strings.Contains(string(headers), want) {
			t.Errorf("the upstream shows %s, want %s", headers, want)
		}
	}
	if fmt.Sprint(echo["service"], echo["method"], echo["path"], echo["query"], echo["body_bytes"]) != "queryPOST/api/v1/query/ask%20mea=15" {
		t.Errorf("the upstream shows %v", echo)
	}

	text, err := os.ReadFile(o.ReadyFile)
	if err != nil {
		t.Fatal(err)
	}
	var written devstack.Ready
	if err := json.Unmarshal(text, &written); err != nil || written != r.ready {
		t.Errorf("the ready file says %s (%v), want %+v", text, err, r.ready)
	}
	for _, file := range []string{o.ReadyFile, filepath.Join(state, "envoy.yaml")} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", file, info.Mode(), err)
		}
	}
	if !strings.Contains(r.output.String(), "authz | serving\n") || !strings.Contains(r.output.String(), "postgres | ") {
		t.Errorf("the output lacks its prefixes:\n%s", r.output)
	}

	second := options(t, state)
	if err := devstack.Up(t.Context(), second); err == nil || !strings.Contains(err.Error(), "another gatehouse up uses the state directory") {
		t.Errorf("a second up: %v, want a refusal", err)
	}
	taken := options(t, stateDir(t))
	taken.Listen = strings.TrimPrefix(r.ready.Gateway, "http://")
	_, port, _ := net.SplitHostPort(taken.Listen)
	if err := devstack.Up(t.Context(), taken); err == nil || !strings.Contains(err.Error(), "port "+port+" is taken") {
		t.Errorf("an up on a taken port: %v, want one that names %s", err, port)
	}
	if entries, err := os.ReadDir(taken.StateDir); err != nil || len(entries) > 0 {
		t.Errorf("an up on a taken port has started something: %v %v", entries, err)
	}

	r.cancel()
	if err := r.end(t); err != nil {
		t.Errorf("a clean end: %v", err)
	}
	if _, err := os.Stat(o.ReadyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ready file is still there: %v", err)
	}
	if pid, _ := health["pid"].(float64); !gone(int(pid)) {
		t.Error("login runs on")
	}
	if l, err := net.Listen("tcp", taken.Listen); err != nil {
		t.Errorf("the public port is still taken: %v", err)
	} else {
		_ = l.Close()
	}

	// The same again, now with what the first run left.
	again := up(t, o)
	again.cancel()
	if err := again.end(t); err != nil {
		t.Errorf("the end of the second run: %v", err)
	}
}

func TestAStartLogKeepsTheStartAndTheStopFromTheOutput(t *testing.T) {
	o := options(t, stateDir(t))
	o.StartLog = filepath.Join(o.StateDir, "start.log")
	if err := os.WriteFile(o.StartLog, []byte("of the run before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var notices output
	o.Notice = func(text string) { fmt.Fprintln(&notices, text) }
	r := up(t, o)
	if !strings.Contains(notices.String(), o.StartLog) {
		t.Errorf("nobody is told of the file: %s", &notices)
	}
	fetch(t, "GET", r.ready.Gateway+"/health?say=asked-when-ready", "", nil)
	eventually(t, "what login says once all is ready", func() bool {
		return strings.Contains(r.output.String(), "login | asked-when-ready\n")
	})
	r.cancel()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}

	if !strings.HasSuffix(notices.String(), "stopping\n") {
		t.Errorf("nobody is told of the stop: %s", &notices)
	}

	text, err := os.ReadFile(o.StartLog)
	if err != nil {
		t.Fatal(err)
	}
	log, shown := string(text), r.output.String()
	for _, want := range []string{"authz | serving\n", "postgres | ", "database system is shut down", `login | {"level":"WARN","msg":"look here"}`} {
		if !strings.Contains(log, want) {
			t.Errorf("the start's log lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "of the run before") || strings.Contains(log, "asked-when-ready") {
		t.Errorf("the start's log has more than the start and the stop:\n%s", log)
	}
	if strings.Contains(shown, "serving") || strings.Contains(shown, "shut down") || strings.Count(shown, `{"level":"WARN","msg":"look here"}`) != 2 {
		t.Errorf("shown is, not only what has to be seen:\n%s", shown)
	}
}

func TestAPartThatDiesEndsUpAndIsNamed(t *testing.T) {
	o := options(t, stateDir(t))
	r := up(t, o)
	pid, _ := fetch(t, "GET", r.ready.Gateway+"/health", "", nil)["pid"].(float64)
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := r.end(t)
	if err == nil || !strings.Contains(err.Error(), "login exited: signal: killed") {
		t.Errorf("error %v, want one that names login", err)
	}
	if _, err := os.Stat(o.ReadyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ready file is still there: %v", err)
	}
}

func TestUpThatCannotGetReadySaysWhatIsMissing(t *testing.T) {
	p := startPostgres(t, machinePostgres(t).Path, stateDir(t))
	for _, c := range []struct {
		name  string
		spoil func(*devstack.UpOptions)
		want  string
	}{
		{"a service that refuses its settings", func(o *devstack.UpOptions) {
			o.Authz.Env = func(devstack.Addresses) []string { return []string{helperEnv + "=service authz broken"} }
		}, "authz exited: exit status 2; its last lines: GATEWAY_JWT_SECRET: required"},
		{"a service that is never ready", func(o *devstack.UpOptions) {
			o.ReadyTimeout = time.Second
			o.Login.Env = func(devstack.Addresses) []string { return []string{helperEnv + "=service login unready"} }
		}, "login is not ready"},
		{"a service that is not there", func(o *devstack.UpOptions) { o.Login.Path = "/nowhere/login" }, "starting login: "},
		{"a migration that fails", func(o *devstack.UpOptions) {
			o.Migrate = func(context.Context, string) error { return errors.New("two users share an email") }
		}, "migrating the database: two users share an email"},
		{"an Envoy configuration that Envoy refuses", func(o *devstack.UpOptions) {
			o.RenderEnvoy = func(devstack.Addresses) ([]byte, error) { return []byte(`{"no_such_field":1}`), nil }
		}, "envoy exited: exit status 1; its last lines: "},
		{"an Envoy that is not there", func(o *devstack.UpOptions) { o.Find.EnvoyBin = "/nowhere/envoy" }, "ENVOY_BIN=/nowhere/envoy: "},
		{"a gateway that does not reach login", func(o *devstack.UpOptions) {
			o.ReadyTimeout = 3 * time.Second
			o.RenderEnvoy = func(a devstack.Addresses) ([]byte, error) {
				a.Login = "http://127.0.0.1:1"
				return render(a)
			}
		}, "the gateway is not ready"},
		{"a ready file that cannot be", func(o *devstack.UpOptions) { o.ReadyFile = "/nowhere/ready.json" }, "the ready file's directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, t.TempDir())
			o.DatabaseURL = p.URL("postgres")
			o.OnReady = func(devstack.Ready) { t.Error("it called itself ready") }
			c.spoil(&o)
			err := devstack.Up(within(t, 60*time.Second), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestAnUpThatIsInterruptedWhileItStartsStopsWhatItStarted(t *testing.T) {
	o := options(t, stateDir(t))
	ctx, cancel := context.WithCancel(t.Context())
	var url string
	o.Migrate = func(ctx context.Context, at string) error {
		url = at
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if err := devstack.Up(ctx, o); !errors.Is(err, devstack.ErrInterrupted) {
		t.Errorf("error %v, want %v", err, devstack.ErrInterrupted)
	}
	_, hostPort, _ := strings.Cut(url, "@")
	hostPort, _, _ = strings.Cut(hostPort, "/")
	if c, err := net.Dial("tcp", hostPort); err == nil {
		_ = c.Close()
		t.Error("PostgreSQL runs on")
	}
}
