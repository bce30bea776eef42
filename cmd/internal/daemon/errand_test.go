package daemon_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/internal/health"
)

// operations is a running operations face, with the log level that it changes.
func operations(t *testing.T) (address string, level *health.LogLevel) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	level = health.NewLogLevel(slog.LevelInfo)
	server := health.NewServer(health.Ops(prometheus.NewRegistry(), func() error { return nil }, level, log), log)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String(), level
}

func TestTheLogLevelIsShownAndChangedByTheProgramItself(t *testing.T) {
	t.Chdir(t.TempDir())
	address, level := operations(t)
	environ := []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_POSTGRES_SERVER=localhost", "GATEWAY_AUTHZ_OPS_LISTEN=" + address}
	cases := []struct {
		name       string
		args       []string
		want       int
		wantStdout string
		wantStderr string
		wantLevel  slog.Level
	}{
		{"it is shown", []string{"log-level"}, daemon.Fine, "INFO\n", "", slog.LevelInfo},
		{"it is changed, in any letter case", []string{"log-level", "debug"}, daemon.Fine, "DEBUG until ", "", slog.LevelDebug},
		{"for as long as is asked, named after it", []string{"log-level", "ERROR", "--for", "10m"}, daemon.Fine, "ERROR until ", "", slog.LevelError},
		{"or before it", []string{"log-level", "--for=10m", "WARNING"}, daemon.Fine, "WARNING until ", "", slog.LevelWarn},
		{"and back", []string{"log-level", "INFO"}, daemon.Fine, "INFO\n", "", slog.LevelInfo},
		{"a level that is none is misuse", []string{"log-level", "LOUD"}, daemon.Misuse, "", "LOUD", slog.LevelInfo},
		{"so is a time that is none", []string{"log-level", "DEBUG", "--for", "soon"}, daemon.Misuse, "", "soon", slog.LevelInfo},
		{"and one that is too long", []string{"log-level", "DEBUG", "--for", "48h"}, daemon.Misuse, "", "24h", slog.LevelInfo},
		{"and a time without a level", []string{"log-level", "--for", "10m"}, daemon.Misuse, "", "--for needs a level", slog.LevelInfo},
		{"and two levels", []string{"log-level", "DEBUG", "INFO"}, daemon.Misuse, "", `unknown argument "INFO"`, slog.LevelInfo},
		{"and an unknown flag", []string{"log-level", "--loud"}, daemon.Misuse, "", "loud", slog.LevelInfo},
		{"help is fine", []string{"log-level", "--help"}, daemon.Fine, "", "goes back by itself", slog.LevelInfo},
	}
	for _, c := range cases {
		var stdout, stderr bytes.Buffer
		got := daemon.Main(t.Context(), program(nil), daemon.Call{Args: c.args, Environ: environ, Stdout: &stdout, Stderr: &stderr})
		if got != c.want || !strings.HasPrefix(stdout.String(), c.wantStdout) || !strings.Contains(stderr.String(), c.wantStderr) {
			t.Errorf("%s: code %d, %q, %q; want %d, %q, %q", c.name, got, &stdout, &stderr, c.want, c.wantStdout, c.wantStderr)
		}
		if level.Level() != c.wantLevel {
			t.Errorf("%s: the level is %v, want %v", c.name, level.Level(), c.wantLevel)
		}
	}
	var stderr bytes.Buffer
	nobody := append(slices.Clip(environ), "GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:1")
	if got := daemon.Main(t.Context(), program(nil), daemon.Call{Args: []string{"log-level"}, Environ: nobody, Stdout: io.Discard, Stderr: &stderr}); got != daemon.Failed {
		t.Errorf("with nobody there the code is %d: %s", got, &stderr)
	}
	if want := "log-level: no answer from warden at http://127.0.0.1:1, where GATEWAY_WARDEN_OPS_LISTEN (127.0.0.1:1) has it: dial tcp"; !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("%q, want %q", &stderr, want)
	}
}

func TestTracingThatIsMalformedEndsTheStartWithTheSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	var stderr bytes.Buffer
	got := daemon.Main(t.Context(), program(nil), daemon.Call{
		Environ: []string{"GATEWAY_JWT_SECRET=short", "GATEWAY_POSTGRES_SERVER=localhost", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317", "OTEL_TRACES_SAMPLER=loud"},
		Stdout:  io.Discard, Stderr: &stderr,
	})
	if got != daemon.Misuse {
		t.Errorf("code = %d", got)
	}
	for _, want := range []string{"GATEWAY_JWT_SECRET: ", "OTEL_EXPORTER_OTLP_ENDPOINT: ", "OTEL_TRACES_SAMPLER: "} {
		if !strings.Contains("\n"+stderr.String(), "\n"+want) {
			t.Errorf("no line begins with %q:\n%s", want, &stderr)
		}
	}
}

// TestAProcessOffersWhatItSays runs the operations face as the daemons do.
func TestAProcessOffersWhatItSays(t *testing.T) {
	t.Chdir(t.TempDir())
	p := program(nil)
	p.Serve = func(ctx context.Context, p *daemon.Process) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: p.Operations(func() error { return nil }), ReadHeaderTimeout: time.Second}
		go func() { _ = server.Serve(l) }()
		defer func() { _ = server.Close() }()
		p.Log.Debug("unheard")
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+l.Addr().String()+"/log-level?level=DEBUG&for=1m", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		client := &http.Client{Timeout: 5 * time.Second}
		a, err := client.Do(r)
		if err != nil {
			return err
		}
		_ = a.Body.Close()
		p.Log.Debug("heard")
		a, err = client.Get("http://" + l.Addr().String() + "/metrics")
		if err != nil {
			return err
		}
		defer func() { _ = a.Body.Close() }()
		text, err := io.ReadAll(a.Body)
		for _, want := range []string{"gatehouse_build_info{goversion=", "process_open_fds ", "go_goroutines ", `gatehouse_trace_spans_total{result="ok"} 0`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("/metrics lacks %q", want)
			}
		}
		return err
	}
	var stderr bytes.Buffer
	code := daemon.Main(t.Context(), p, daemon.Call{
		Environ: []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_POSTGRES_SERVER=localhost"}, Stdout: io.Discard, Stderr: &stderr,
	})
	if said := stderr.String(); code != daemon.Fine || strings.Contains(said, "unheard") || !strings.Contains(said, `"msg":"heard"`) || !strings.Contains(said, "log level changed") {
		t.Errorf("code %d:\n%s", code, said)
	}
}
