package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/internal/config"
)

const testSecret = "test-secret-made-of-obvious-words-for-daemons"

// program serves nothing and ends at once with err.
func program(err error) daemon.Program {
	return daemon.Program{
		Name:  "warden",
		About: "a test",
		Need:  config.NeedAuthz,
		Ops:   func(s *config.Settings) config.Address { return s.Listen.AuthzOps },
		Serve: func(_ context.Context, p *daemon.Process) error {
			if err != nil {
				return err
			}
			return p.Announce(map[string]string{"authz_ops": "http://127.0.0.1:1"})
		},
	}
}

func TestExitCodes(t *testing.T) {
	t.Chdir(t.TempDir()) // no .env
	good := []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_DATABASE_URL=postgres://u:hidden-word@127.0.0.1:1/x"}
	cases := []struct {
		name       string
		args       []string
		environ    []string
		err        error
		want       int
		wantStderr []string
	}{
		{"a clean end is fine", nil, good, nil, daemon.Fine, []string{`"msg":"starting"`, `"msg":"stopped"`}},
		{"help is fine", []string{"--help"}, nil, nil, daemon.Fine, []string{"healthcheck"}},
		{"the version is fine", []string{"--version"}, nil, nil, daemon.Fine, nil},
		{"a failure is told once, with its cause", nil, good, errors.New("no such luck"), daemon.Failed, []string{"no such luck"}},
		{"a setting that only the part could judge is misuse", nil, good, daemon.Misused(errors.New("the key is odd")), daemon.Misuse, []string{"the key is odd"}},
		{"an unknown flag is misuse", []string{"--nope"}, good, nil, daemon.Misuse, []string{"nope"}},
		{"an unknown argument is misuse", []string{"serve"}, good, nil, daemon.Misuse, []string{`unknown argument "serve"`}},
		{"every fault of the settings is told at once", nil, []string{"GATEWAY_JWT_SECRET=short", "GATEWAY_LOG_LEVEL=loud"}, nil, daemon.Misuse, []string{"GATEWAY_JWT_SECRET:", "GATEWAY_LOG_LEVEL:"}},
		{"a healthcheck of nobody fails", []string{"healthcheck"}, append(good, "GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:1"), nil, daemon.Failed, []string{"healthcheck:"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got := daemon.Main(t.Context(), program(c.err), daemon.Call{Args: c.args, Environ: c.environ, Stdout: &stdout, Stderr: &stderr})
			if got != c.want {
				t.Errorf("code = %d, want %d", got, c.want)
			}
			for _, want := range c.wantStderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr lacks %q:\n%s", want, stderr.String())
				}
			}
			for _, secret := range []string{testSecret, "hidden-word"} {
				if strings.Contains(stderr.String()+stdout.String(), secret) {
					t.Errorf("the output holds %q", secret)
				}
			}
		})
	}
}

func TestTheReadyFileHoldsTheAddresses(t *testing.T) {
	t.Chdir(t.TempDir())
	file := filepath.Join(t.TempDir(), "ready.json")
	var out bytes.Buffer
	code := daemon.Main(t.Context(), program(nil), daemon.Call{
		Args: []string{"--ready-file", file}, Environ: []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_POSTGRES_SERVER=localhost"}, Stdout: &out, Stderr: &out,
	})
	if code != daemon.Fine {
		t.Fatalf("code = %d:\n%s", code, out.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(text, &got); err != nil || got["authz_ops"] != "http://127.0.0.1:1" {
		t.Errorf("ready file = %s (%v)", text, err)
	}
}

func TestHealthcheckAsksForReadiness(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	status := http.StatusOK
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("because\n"))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })

	for want, s := range map[int]int{daemon.Fine: http.StatusOK, daemon.Failed: http.StatusServiceUnavailable} {
		status = s
		var out bytes.Buffer
		got := daemon.Main(t.Context(), program(nil), daemon.Call{
			Args:    []string{"healthcheck"},
			Environ: []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_POSTGRES_SERVER=localhost", "GATEWAY_AUTHZ_OPS_LISTEN=" + l.Addr().String()},
			Stdout:  &out, Stderr: &out,
		})
		if got != want {
			t.Errorf("with status %d the code is %d, want %d\n%s", s, got, want, out.String())
		}
		if s != http.StatusOK && !strings.Contains(out.String(), "because") {
			t.Errorf("the reason is missing: %s", out.String())
		}
	}
}
