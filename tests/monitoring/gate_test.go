package monitoring

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// gate is a `gatehouse up` with all that measures something turned on: keys in a
// file, keys of another issuer, traces and the decision log.
type gate struct {
	Gateway    string `json:"gateway"`
	AuthzOps   string `json:"authz_ops"`
	LoginOps   string `json:"login_ops"`
	EnvoyAdmin string `json:"envoy_admin"`

	login string // the demo user's, as JSON
}

func startGate(t *testing.T) *gate {
	t.Helper()
	dir := t.TempDir()
	// PostgreSQL may run as another user than the tests.
	state, err := os.MkdirTemp("", "gatehouse-monitoring-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	program := filepath.Join(dir, "gatehouse")
	run(t, "go", "build", "-o", program, "github.com/atenex/gatehouse/cmd/gatehouse")
	keys := filepath.Join(dir, "keys.json")
	run(t, program, "key", "generate", "--set", "--out", keys)

	readyFile, greeting := filepath.Join(dir, "ready.json"), filepath.Join(dir, "greeting")
	out, err := os.Create(greeting)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	cmd := exec.Command(program, "up", "--state-dir", state, "--listen", "127.0.0.1:0", "--ready-file", readyFile)
	cmd.Dir, cmd.Stdout = dir, out
	cmd.Env = append(os.Environ(),
		"GATEWAY_JWT_KEYS_FILE="+keys,
		"GATEWAY_JWT_JWKS_URL="+otherIssuer(t)+"/jwks.json",
		"GATEWAY_DECISION_LOG="+filepath.Join(dir, "decisions.jsonl"),
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector(t),
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
	)
	start(t, cmd)
	g := &gate{}
	eventually(t, "the gate is ready", func() bool {
		text, err := os.ReadFile(readyFile)
		return err == nil && json.Unmarshal(text, g) == nil
	})
	demo := regexp.MustCompile(`-d '(\{"email".*?\})'`)
	eventually(t, "up says how to sign in", func() bool {
		text, err := os.ReadFile(greeting)
		if m := demo.FindSubmatch(text); err == nil && m != nil {
			g.login = string(m[1])
		}
		return g.login != ""
	})
	return g
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// otherIssuer publishes one key, which signs nothing.
func otherIssuer(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"another","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	return serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, set)
	})
}

// collector takes traces and forgets them.
func collector(t *testing.T) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	})
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// load asks for everything that is counted, a little of each, until it is
// stopped.
func (g *gate) load(t *testing.T) (stop func()) {
	t.Helper()
	token := g.signIn(t.Context())
	if status, body := g.ask(t.Context(), http.MethodGet, "/api/v1/query/hello", token, ""); status != http.StatusOK {
		t.Fatalf("the first call: %d %s", status, body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	every := func(pause time.Duration, do func()) {
		done.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for {
				do()
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	every(50*time.Millisecond, func() { g.ask(ctx, http.MethodGet, "/api/v1/query/hello", token, "") })
	every(100*time.Millisecond, func() { g.ask(ctx, http.MethodPost, "/api/v1/ingest/upload", token, "a body") })
	every(500*time.Millisecond, func() { g.ask(ctx, http.MethodGet, "/api/v1/query/hello", "", "") })
	every(2*time.Second, func() {
		g.ask(ctx, http.MethodGet, "/api/v1/query/hello", token[:len(token)-8]+"AAAAAAAA", "")
		g.ask(ctx, http.MethodGet, "/api/v1/users/me", token, "")
		g.ask(ctx, http.MethodGet, "/health", "", "")
		g.ask(ctx, http.MethodPost, "/api/v1/users/me/ensure-company", token, "")
	})
	every(4*time.Second, func() {
		// Another session each time, which authz must ask the database for.
		g.ask(ctx, http.MethodGet, "/api/v1/query/hello", g.signIn(ctx), "")
		g.ask(ctx, http.MethodPost, "/api/v1/users/login", "", `{"email":"nobody@example.com","password":"wrong-password"}`)
	})
	return func() { cancel(); done.Wait() }
}

// signIn is the demo user's new token, or "".
func (g *gate) signIn(ctx context.Context) string {
	_, body := g.ask(ctx, http.MethodPost, "/api/v1/users/login", "", g.login)
	var session struct {
		Token string `json:"access_token"`
	}
	_ = json.Unmarshal(body, &session)
	return session.Token
}

func (g *gate) ask(ctx context.Context, method, path, token, body string) (int, []byte) {
	r, err := http.NewRequestWithContext(ctx, method, g.Gateway+path, bytes.NewBufferString(body))
	if err != nil {
		return 0, nil
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, text
}
