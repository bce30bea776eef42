package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

const explainedSecret = "test-secret-of-a-gate-that-explains-itself"

// recordingGate is an authz on a real database that records what it decides.
type recordingGate struct {
	t       *testing.T
	environ []string
	log     string
	checks  authv3.AuthorizationClient

	company, ada, token string
}

func startRecordingGate(t *testing.T, more ...string) *recordingGate {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir) // no .env
	g := &recordingGate{t: t, log: filepath.Join(dir, "decisions.jsonl")}
	g.environ = append([]string{
		"GATEWAY_DATABASE_URL=" + postgrestest.New(t), "GATEWAY_JWT_SECRET=" + explainedSecret, "GATEWAY_DECISION_LOG=" + g.log,
		"GATEWAY_AUTHZ_LISTEN=127.0.0.1:0", "GATEWAY_AUTHZ_OPS_LISTEN=127.0.0.1:0", "HOME=" + dir,
	}, more...)
	g.fine("migrate")
	g.company = strings.TrimSpace(g.fine("company", "create", "Analytical Engines"))
	g.ada = strings.TrimSpace(g.fine("user", "create", "ada@example.com", "--company", g.company, "--no-password"))
	g.token = strings.TrimSpace(g.fine("token", "mint", "--user", "ada@example.com"))

	ready := filepath.Join(dir, "ready.json")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	var said transcript
	go func() {
		ended <- run(ctx, []string{childAuthz, "--drain=0s", "--ready-file", ready}, g.environ, strings.NewReader(""), &said, &said)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitFine {
			t.Errorf("authz ended with %d:\n%s", code, said.String())
		}
	})
	var at map[string]string
	until(t, "authz is ready", func() bool {
		text, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(text, &at) == nil
	})
	conn, err := grpc.NewClient(at["authz_grpc"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	g.checks = authv3.NewAuthorizationClient(conn)
	return g
}

// call runs the command with the gate's settings.
func (g *recordingGate) call(stdin string, args ...string) (code int, stdout, stderr string) {
	g.t.Helper()
	var out, errs bytes.Buffer
	code = run(g.t.Context(), args, g.environ, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func (g *recordingGate) fine(args ...string) string {
	g.t.Helper()
	code, out, errs := g.call("", args...)
	if code != exitFine {
		g.t.Fatalf("gatehouse %s: %d %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// check asks as Envoy does, for a route of the table.
func (g *recordingGate) check(id, method, path, token string, extensions map[string]string) {
	g.t.Helper()
	headers := map[string]string{"x-request-id": id}
	if token != "" {
		headers["authorization"] = "Bearer " + token
	}
	_, err := g.checks.Check(g.t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: extensions,
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: method, Path: path, Headers: headers,
		}},
	}})
	if err != nil {
		g.t.Fatal(err)
	}
}

// recorded waits until the log has this many lines.
func (g *recordingGate) recorded(n int) {
	g.t.Helper()
	until(g.t, "the decisions are recorded", func() bool {
		text, err := os.ReadFile(g.log)
		return err == nil && bytes.Count(text, []byte("\n")) == n
	})
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-late:
			t.Fatalf("%s: not within 30 s", what)
		case <-again.C:
		}
	}
}

// transcript is a buffer that several goroutines use.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *transcript) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *transcript) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// legacyToken is one of the replaced gateways, which named no key.
func legacyToken(user, company string) string {
	return signed(`{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(
		`{"sub":%q,"company_id":%q,"email":"ada@example.com","exp":%d}`, user, company, time.Now().Add(time.Hour).Unix()))
}

func signed(header, payload string) string {
	b64 := base64.RawURLEncoding
	input := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(explainedSecret))
	mac.Write([]byte(input))
	return input + "." + b64.EncodeToString(mac.Sum(nil))
}

var queryRoute = map[string]string{"auth_mode": "strict", "route": "query"}

// What a real authz recorded is told by the command as authz saw it, and judged
// under other settings.
func TestWhatAuthzRecordedIsExplainedAndReplayed(t *testing.T) {
	g := startRecordingGate(t)
	other := strings.TrimSpace(g.fine("company", "create", "Difference Engines"))
	outsider := strings.TrimSpace(g.fine("token", "mint", "--user", "ada@example.com", "--company", other))
	g.check("req-allowed", "GET", "/api/v1/query/chats?secret=query", g.token, queryRoute)
	g.check("req-outsider", "POST", "/api/v1/query/ask", outsider, queryRoute)
	g.check("req-legacy", "GET", "/api/v1/query/chats", legacyToken(g.ada, g.company), queryRoute)
	g.check("req-nobody", "GET", "/api/v1/query/chats", "", queryRoute)
	g.check("req-garbage", "GET", "/api/v1/ingest/x", "garbage", map[string]string{"auth_mode": "strict", "route": "ingest"})
	g.recorded(5)

	t.Run("explained", func(t *testing.T) {
		for _, c := range []struct {
			args string
			want []string
		}{
			{"--request-id req-allowed", []string{"ALLOW\n", "x-user-id: " + g.ada, "x-company-id: " + g.company, "the same by these settings", "GET /api/v1/query/chats\n"}},
			{"--decision " + g.log + " --nth 2", []string{"DENY 403 company_left: User is no longer associated with the company in this\ntoken.\n", "with a Bearer token\n", "FAIL  membership", other, "grpc-status: 7 (PERMISSION_DENIED)"}},
			{"--decision " + g.log, []string{"DENY 401 token_malformed", "route      ingest: strict", "FAIL  form"}},
		} {
			code, out, errs := g.call("", append([]string{"explain"}, strings.Fields(c.args)...)...)
			if code != exitFine {
				t.Fatalf("%s: %d %s", c.args, code, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%s has no %q:\n%s", c.args, want, out)
				}
			}
			if strings.Contains(out, "secret=query") {
				t.Errorf("%s shows the query", c.args)
			}
		}
		if code, _, errs := g.call("", "explain", "--request-id", "req-unknown"); code != exitFailed || !strings.Contains(errs, "none of its 5 decisions has this request id") {
			t.Errorf("an unknown id: %d %s", code, errs)
		}
		if code, _, _ := g.call("", "explain", "--exit-code", "--request-id", "req-nobody"); code != exitFailed {
			t.Errorf("--exit-code of a refusal: %d", code)
		}
	})
	t.Run("watched from a pipe, behind the names of containers", func(t *testing.T) {
		text, err := os.ReadFile(g.log)
		if err != nil {
			t.Fatal(err)
		}
		piped := `authz-1  | {"level":"INFO","msg":"ready"}` + "\n" + "\x1b[36mauthz-1  |\x1b[0m " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\r\nauthz-2  | ")
		code, out, errs := g.call(piped, "explain", "--watch", "-", "--route", "query")
		if code != exitFine {
			t.Fatalf("%d %s", code, errs)
		}
		for _, want := range []string{"deny 403 company_left, route query (strict)", "membership: companies of the user", "deny 401 not_authenticated", "id req-nobody"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q:\n%s", want, out)
			}
		}
		if strings.Contains(out, "req-allowed") || strings.Contains(out, "req-garbage") {
			t.Errorf("tells what was not asked for:\n%s", out)
		}
		for args, want := range map[string]int{"--all": 5, "": 3, "--user " + strings.ToUpper(g.ada): 1, "--reason token_malformed": 1} {
			code, out, _ := g.call(piped, append([]string{"explain", "--watch", "-", "--output", "json"}, strings.Fields(args)...)...)
			if code != exitFine || strings.Count(out, "\n") != want {
				t.Errorf("%q: %d decisions, want %d", args, strings.Count(out, "\n"), want)
			}
		}
	})
	t.Run("replayed", func(t *testing.T) {
		table := `upstreams: { ingest: {}, query: {} }
routes:
  - { name: query, prefix: /api/v1/query, methods: [GET], mode: strict, roles: [admin], upstream: query }
  - { name: ingest, prefix: /api/v1/ingest, methods: [GET], mode: none, upstream: ingest }
`
		past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
		for _, c := range []struct {
			name, file, text string
			code             int
			want             []string
		}{
			{"nothing", "new.env", "GATEWAY_LOG_LEVEL=DEBUG", exitFine, []string{"same         5\n", "changed      0\n"}},
			{"another table", "routes.yaml", table, exitFailed, []string{
				"query: allow -> deny 403 role_insufficient", "query: deny 403 company_left -> envoy 405 other_method", "ingest: deny 401 token_malformed -> allow", "same         1\n",
			}},
			{"the explicit table", "new.env", "GATEWAY_ROUTES=explicit", exitFailed, []string{"ingest: deny 401 token_malformed -> envoy 404 no_route", "changed      1\n"}},
			{"an audience", "new.env", "GATEWAY_JWT_AUDIENCE=gate", exitFailed, []string{"query: allow -> deny 401 claims_missing", "query: deny 403 company_left -> deny 401 claims_missing", "changed      3\n"}},
			{"the end of old tokens", "new.env", "GATEWAY_LEGACY_TOKENS_UNTIL=" + past, exitFailed, []string{"query: allow -> deny 401 token_revoked", "request req-legacy, line 3", "changed      1\n"}},
			{"companies are not held together", "new.env", "GATEWAY_COMPANY_CHECK=off", exitFailed, []string{"query: deny 403 company_left -> allow", "changed      1\n", "user " + g.ada}},
			{"another secret", "new.env", "GATEWAY_JWT_SECRET=" + strings.Repeat("test-secret-", 4), exitFine, []string{"undecidable  3\n", "another key, for which its signature is needed"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				g := *g
				g.t = t
				if err := os.WriteFile(c.file, []byte(c.text+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				code, out, errs := g.call("", "replay", g.log, "--config", c.file)
				if code != c.code {
					t.Errorf("exit code %d, want %d: %s", code, c.code, errs)
				}
				// Wrapped lines are read as one.
				plain := strings.Join(strings.Fields(out), " ")
				for _, want := range c.want {
					if !strings.Contains(out, want) && !strings.Contains(plain, want) {
						t.Errorf("no %q:\n%s", want, out)
					}
				}
				var parsed replayView
				code, out, _ = g.call("", "replay", g.log, "--config", c.file, "--output", "json", "--exit-zero", "--limit", "1")
				if err := json.Unmarshal([]byte(out), &parsed); err != nil || code != exitFine || parsed.Total != 5 || len(parsed.Decisions) > 1 {
					t.Errorf("%d %v:\n%s", code, err, out)
				}
			})
		}
	})
	t.Run("under settings that are wrong", func(t *testing.T) {
		if err := os.WriteFile("new.env", []byte("GATEWAY_JWT_ALGORITHM=none\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := g.call("", "replay", g.log, "--config", "new.env"); code != exitMisuse || out != "" || !strings.Contains(errs, "GATEWAY_JWT_ALGORITHM: ") {
			t.Errorf("%d %s%s", code, out, errs)
		}
	})
}
