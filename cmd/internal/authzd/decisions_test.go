package authzd

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/internal/decisionlog"
)

// process is an authz that asks no database.
type process struct {
	t              *testing.T
	checks         authv3.AuthorizationClient
	stdout, stderr record
	ready          string
	ended          chan int
	stop           context.CancelFunc
}

func start(t *testing.T, environ ...string) *process {
	t.Helper()
	t.Chdir(t.TempDir()) // no .env
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: t, ready: filepath.Join(t.TempDir(), "ready.json"), ended: make(chan int, 1), stop: cancel}
	go func() {
		p.ended <- Run(ctx, daemon.Call{
			Args: []string{"--ready-file", p.ready, "--drain", "1ms"},
			Environ: append([]string{
				"GATEWAY_JWT_SECRET=" + strings.Repeat("test-secret-", 4), "GATEWAY_TOKEN_PROFILE=supabase", "GATEWAY_USER_CHECK=off",
				"GATEWAY_AUTHZ_LISTEN=127.0.0.1:0", "GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:0",
			}, environ...),
			Stdout: &p.stdout, Stderr: &p.stderr,
		})
	}()
	t.Cleanup(cancel)
	return p
}

func (p *process) serving() *process {
	p.t.Helper()
	var addresses map[string]string
	p.until("it serves", func() bool {
		text, err := os.ReadFile(p.ready)
		return err == nil && json.Unmarshal(text, &addresses) == nil
	})
	connection, err := grpc.NewClient(addresses["authz_grpc"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = connection.Close() })
	p.checks = authv3.NewAuthorizationClient(connection)
	return p
}

func (p *process) until(what string, so func() bool) {
	p.t.Helper()
	deadline, again := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for !so() {
		select {
		case <-again.C:
		case code := <-p.ended:
			p.t.Fatalf("it ended with %d before %s:\n%s", code, what, p.stderr.text.String())
		case <-deadline:
			p.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (p *process) ask(path, authorization string, extensions map[string]string) {
	p.t.Helper()
	headers := map[string]string{"x-request-id": "req-1"}
	if authorization != "" {
		headers["authorization"] = authorization
	}
	if _, err := p.checks.Check(p.t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: extensions,
		Request:           &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: path, Headers: headers}},
	}}, grpc.WaitForReady(true)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) end() {
	p.t.Helper()
	p.stop()
	select {
	case code := <-p.ended:
		if code != daemon.Fine {
			p.t.Errorf("it ended with %d", code)
		}
	case <-time.After(20 * time.Second):
		p.t.Fatal("it does not end")
	}
}

// told is "path reason" of each decision in a log.
func told(t *testing.T, log []byte) string {
	t.Helper()
	var out []string
	for entry, err := range decisionlog.Read(bytes.NewReader(log)) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Decision.GetInstance() == "" || !entry.Decision.GetTime().IsValid() {
			t.Errorf("who decided, and when? %v", entry.Decision)
		}
		out = append(out, entry.Decision.GetPath()+" "+entry.Decision.GetReason())
	}
	return strings.Join(out, ", ")
}

func TestDecisionsGoToStandardOutput(t *testing.T) {
	p := start(t, "GATEWAY_DECISION_LOG=stdout", "GATEWAY_DECISION_LOG_SAMPLE=0").serving()
	p.ask("/a?secret=1", "", map[string]string{"auth_mode": "strict"})
	p.ask("/b", "Bearer eyJx.eyJ.x", map[string]string{"auth_mode": "strict"})
	p.ask("/c", "", map[string]string{"auth_mode": "none"})
	p.end()
	out := p.stdout.text.Bytes()
	if got, want := told(t, out), "/a not_authenticated, /b token_malformed"; got != want {
		t.Errorf("decisions %q, want %q", got, want)
	}
	// Where a container's two outputs become one, both kinds are told apart.
	for line := range bytes.Lines(append(out, p.stderr.text.Bytes()...)) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		if (m["kind"] == nil) == (m["level"] == nil) {
			t.Errorf("neither a decision nor an ordinary line, or both: %s", line)
		}
	}
	for _, word := range []string{"eyJ", "secret=1", "test-secret"} {
		if bytes.Contains(out, []byte(word)) {
			t.Errorf("the decisions hold %q", word)
		}
	}
}

func TestDecisionsGoToAFileThatIsOpenedAnewOnHangup(t *testing.T) {
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	p := start(t, "GATEWAY_DECISION_LOG="+name).serving()
	p.ask("/before", "", nil)
	p.until("it is written", func() bool { b, err := os.ReadFile(name); return err == nil && len(b) > 0 })
	if err := os.Rename(name, name+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.until("the file is there again", func() bool { _, err := os.Stat(name); return err == nil })
	p.ask("/after", "", nil)
	p.end()
	for file, want := range map[string]string{name + ".moved": "/before not_authenticated", name: "/after not_authenticated"} {
		log, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := told(t, log); got != want {
			t.Errorf("%s has %q, want %q", file, got, want)
		}
	}
	if p.stdout.text.Len() > 0 {
		t.Errorf("standard output has %q", p.stdout.text.String())
	}
}

func TestADecisionLogThatCannotBeOpenedIsAWrongSetting(t *testing.T) {
	p := start(t, "GATEWAY_DECISION_LOG=/no/such/directory/decisions.jsonl")
	if code := <-p.ended; code != daemon.Misuse || !strings.Contains(p.stderr.text.String(), "GATEWAY_DECISION_LOG: ") {
		t.Errorf("it ended with %d:\n%s", code, p.stderr.text.String())
	}
}
