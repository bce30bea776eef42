package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

var curlData = regexp.MustCompile(`curl -s (http://\S+/api/v1/users/login) -H 'Content-Type: application/json' -d '(\{[^']*\})'`)

func TestUpAsAStrangerRunsIt(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	address := freeAddress(t)

	u := up(t, nil, "--state-dir", state, "--listen", address)
	r := u.ready()
	if r.Gateway != "http://"+address {
		t.Errorf("gateway = %s, want http://%s", r.Gateway, address)
	}
	for name, text := range map[string]string{"authz_ops": r.AuthzOps, "login": r.Login, "login_ops": r.LoginOps, "envoy_admin": r.EnvoyAdmin} {
		if p, err := url.Parse(text); err != nil || p.Scheme != "http" || p.Hostname() != "127.0.0.1" || p.Port() == "" {
			t.Errorf("%s = %s, want http:// on loopback", name, text)
		}
	}
	if host, _, err := net.SplitHostPort(r.AuthzGRPC); !strings.HasPrefix(r.AuthzGRPC, "unix:///") && (err != nil || host != "127.0.0.1") {
		t.Errorf("authz_grpc = %s", r.AuthzGRPC)
	}
	if info, err := os.Stat(u.readyFile); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the ready file, which holds a password, has mode %v, %v", info.Mode(), err)
	}

	// The printed lines work as they are printed.
	var found []string
	eventually(t, "a curl line is printed", func() error {
		if found = curlData.FindStringSubmatch(u.stdout.String()); found == nil {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	s := r.stack(t)
	if found[1] != r.Gateway+"/api/v1/users/login" {
		t.Errorf("the printed line asks %s", found[1])
	}
	a := s.postJSON("/api/v1/users/login", nil, found[2])
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	h := bearer(a.field(t, "access_token"))
	h["X-User-Id"] = []string{"forged"}
	for _, path := range []string{"/api/v1/query/hello?x=1", "/api/v1/ingest/hello"} {
		echo := s.do("POST", path, h, "hello")
		if err := echo.is(http.StatusOK); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(echo.body, a.field(t, "user_id")) || !strings.Contains(echo.body, a.field(t, "company_id")) || strings.Contains(echo.body, "forged") {
			t.Errorf("the demo upstream got %s", echo.body)
		}
	}
	s.get("/api/v1/query/hello", nil).expect(t, anonymous)
	wantMetrics(t, r)

	var shown struct{ Password string }
	if err := json.Unmarshal([]byte(found[2]), &shown); err != nil || shown.Password == "" {
		t.Fatalf("%v: %s", err, found[2])
	}
	if strings.Contains(u.stderr.String(), shown.Password) {
		t.Error("the demo's password is in the log")
	}

	// The printed file is for a shell beside it.
	line := regexp.MustCompile(`set -a; \. (\S+); set \+a`).FindStringSubmatch(u.stdout.String())
	if line == nil {
		t.Fatalf("no file of settings is named: %s", u.stdout.String())
	}
	if info, err := os.Stat(line[1]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of settings, which holds secrets: %v, %v", info, err)
	}
	beside := exec.Command("sh", "-c", line[0]+`; "$0" user show demo@example.com --output json && "$0" token mint --user demo@example.com`, filepath.Join(binaries, "gatehouse"))
	beside.Dir = t.TempDir()
	if said, err := beside.CombinedOutput(); err != nil || !strings.Contains(string(said), a.field(t, "user_id")) || !strings.Contains(string(said), "eyJ") {
		t.Errorf("the operator's command beside it: %v: %s", err, said)
	}

	all := descendants(t, u.cmd.Process.Pid)
	for _, part := range []string{"authz", "login", "envoy", "postgres"} {
		if len(named(all, part)) == 0 {
			t.Errorf("no process of %s among %v", part, all)
		}
	}
	u.signal(syscall.SIGTERM)
	if code := u.ended(20 * time.Second); code != 0 {
		t.Errorf("after SIGTERM: exit code %d, want 0", code)
	}
	wantGone(t, all)
	if _, err := os.Stat(u.readyFile); err == nil {
		t.Error("the ready file outlived the run")
	}

	// Again: faster, with the same people and the same secret.
	watch := stopwatch()
	u = up(t, nil, "--state-dir", state, "--listen", address)
	r = u.ready()
	if overdue(watch, 20*time.Second) {
		t.Errorf("the second start took %v", watch.Passed())
	}
	s = r.stack(t)
	if err := s.postJSON("/api/v1/users/login", nil, found[2]).is(http.StatusOK); err != nil {
		t.Errorf("the demo user of the first run: %v", err)
	}
	if err := s.get("/api/v1/query/hello", h).is(http.StatusOK); err != nil {
		t.Errorf("a token of the first run: %v", err)
	}
	if n := s.text(`SELECT count(*)::text FROM users`); n != "1" {
		t.Errorf("%s users, want the one", n)
	}
	t.Run("a second one beside it is refused", func(t *testing.T) {
		beside := up(t, nil, "--state-dir", t.TempDir(), "--listen", address)
		if code := beside.ended(20 * time.Second); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		_, port, _ := net.SplitHostPort(address)
		if !strings.Contains(beside.stderr.String(), port) {
			t.Errorf("it does not name port %s: %s", port, beside.stderr.String())
		}
		if err := s.in(t).get("/health", nil).is(http.StatusOK); err != nil {
			t.Errorf("the first one was harmed: %v", err)
		}
	})

	all = descendants(t, u.cmd.Process.Pid)
	u.signal(syscall.SIGKILL)
	u.ended(10 * time.Second)
	wantGone(t, all)

	// And after that, the state is as good as ever.
	u = up(t, nil, "--state-dir", state, "--listen", address)
	if err := u.ready().stack(t).postJSON("/api/v1/users/login", nil, found[2]).is(http.StatusOK); err != nil {
		t.Errorf("after kill -9: %v", err)
	}
	u.signal(syscall.SIGINT)
	if code := u.ended(20 * time.Second); code != 0 {
		t.Errorf("after SIGINT: exit code %d, want 0", code)
	}
}

func TestUpWithADatabaseAndUpstreamsOfOnesOwn(t *testing.T) {
	t.Parallel()
	database := postgrestest.New(t)
	ingest, query := newUpstream(t), newUpstream(t)
	settings := map[string]string{
		"GATEWAY_DATABASE_URL":       database,
		"GATEWAY_JWT_SECRET":         secret,
		"GATEWAY_INGEST_SERVICE_URL": ingest.URL,
		"GATEWAY_QUERY_SERVICE_URL":  query.URL,
		"GATEWAY_POSTGRES_POOL_MIN":  "1",
	}
	u := up(t, settings, "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--demo=false")
	r := u.ready()
	if r.DatabaseURL != database {
		t.Errorf("database_url = %s, want the configured one", r.DatabaseURL)
	}
	s := r.stack(t)
	s.query = query
	s.decide(t, token(t, claimsOf(s.newMember())), accepted) // migrated, too
	if n := s.text(`SELECT count(*)::text FROM users`); n != "1" {
		t.Errorf("%s users: a demo user was made", n)
	}
	if strings.Contains(u.stdout.String(), "password") {
		t.Errorf("it printed a demo's credentials: %s", u.stdout.String())
	}
	all := descendants(t, u.cmd.Process.Pid)
	for _, p := range all {
		if p.name == "postgres" {
			t.Errorf("it started PostgreSQL: %s", p.command)
		}
	}
	// One part dies, and `up` says which.
	authz := named(all, "authz")
	if len(authz) == 0 {
		t.Fatalf("no authz among %v", all)
	}
	if err := syscall.Kill(authz[0].pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := u.ended(20 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(u.stderr.String(), "gatehouse: authz exited: signal: killed") {
		t.Error("it does not name authz")
	}
	wantGone(t, all)
}

func TestUpRefusesWhatIsWrongBeforeItStartsAnything(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		settings map[string]string
		args     []string
		want     []string
	}{
		{"an unknown flag", nil, []string{"--nonsense"}, []string{"nonsense"}},
		{"an argument too many", nil, []string{"now"}, []string{"too many arguments: 1, and 0 expected"}},
		{"a flag without its value", nil, []string{"--state-dir"}, []string{"state-dir"}},
		{
			"several settings at once",
			map[string]string{
				"GATEWAY_JWT_ALGORITHM": "none", "GATEWAY_POSTGRES_PORT": "seven", "GATEWAY_LOG_LEVEL": "LOUD",
				"GATEWAY_JWT_SECRET": "test-short", "GATEWAY_HTTP_CLIENT_TIMEOUT": "-1", "GATEWAY_EDGE_LOGIN_RATE_LIMIT": "often",
			},
			nil,
			[]string{"GATEWAY_JWT_ALGORITHM", "GATEWAY_POSTGRES_PORT", "GATEWAY_LOG_LEVEL", "GATEWAY_JWT_SECRET", "GATEWAY_HTTP_CLIENT_TIMEOUT", "GATEWAY_EDGE_LOGIN_RATE_LIMIT"},
		},
		{"the secret that everybody knows", map[string]string{"GATEWAY_JWT_SECRET": "YOUR_DEFAULT_JWT_SECRET_KEY_CHANGE_ME_IN_ENV_OR_SECRET"}, nil, []string{"GATEWAY_JWT_SECRET"}},
		{"an empty secret", map[string]string{"GATEWAY_JWT_SECRET": ""}, nil, []string{"GATEWAY_JWT_SECRET"}},
		{"registration at a place that nobody named", map[string]string{"GATEWAY_REGISTRATION": "supabase"}, nil, []string{"GATEWAY_SUPABASE_URL", "GATEWAY_SUPABASE_SERVICE_ROLE_KEY"}},
		{"no user check with native tokens", map[string]string{"GATEWAY_USER_CHECK": "off"}, nil, []string{"GATEWAY_USER_CHECK"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := up(t, test.settings, append([]string{"--state-dir", t.TempDir(), "--listen", "127.0.0.1:0"}, test.args...)...)
			if code := u.ended(20 * time.Second); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			said := u.stderr.String()
			for _, want := range test.want {
				lines := 0
				for line := range strings.Lines(said) {
					if strings.Contains(line, want) {
						lines++
					}
				}
				if lines != 1 && strings.HasPrefix(want, "GATEWAY_") || lines == 0 {
					t.Errorf("%d lines name %s, want one: %s", lines, want, said)
				}
			}
			if strings.Contains(said, "test-short") {
				t.Errorf("the secret is on the screen: %s", said)
			}
		})
	}
}

// wantMetrics checks that what an operator alarms on is there before the first
// fault.
func wantMetrics(t *testing.T, r ready) {
	t.Helper()
	page := func(base string) string {
		a, err := http.Get(base + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Body.Close() }()
		b, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	authz, login := page(r.AuthzOps), page(r.LoginOps)
	for _, name := range []string{
		"gatehouse_build_info{", "gatehouse_authz_check_duration_seconds_bucket{", "gatehouse_database_",
	} {
		if !strings.Contains(authz, "\n"+name) {
			t.Errorf("authz has no %s", name)
		}
	}
	for _, reason := range []string{
		"not_authenticated", "token_malformed", "token_signature", "token_expired", "token_not_yet_valid", "token_audience",
		"token_issuer", "token_role", "claims_missing", "subject_missing", "subject_invalid", "company_invalid", "user_not_found",
		"user_inactive", "token_revoked", "company_missing", "company_left", "company_suspended", "role_insufficient",
	} {
		for _, route := range []string{"ingest", "query", "ensure-company"} {
			if want := `gatehouse_authz_decisions_total{decision="deny",reason="` + reason + `",route="` + route + `"} `; !strings.Contains(authz, want) {
				t.Errorf("authz has no %s", want)
			}
		}
	}
	for _, want := range []string{`decision="error",reason="unavailable"`, `decision="error",reason="internal"`, `decision="allow",reason="ok"`} {
		if !strings.Contains(authz, want) {
			t.Errorf("authz has no decision with %s", want)
		}
	}
	for _, want := range []string{
		"gatehouse_build_info{", `gatehouse_login_attempts_total{result="success"} 1`, `gatehouse_login_attempts_total{result="bad_credentials"} 0`,
	} {
		if !strings.Contains(login, "\n"+want) {
			t.Errorf("login has no %s", want)
		}
	}
	for name, text := range map[string]string{"authz": authz, "login": login} {
		if strings.Contains(text, "@") || strings.Contains(text, "/api/v1") {
			t.Errorf("a label of %s holds an address or a path", name)
		}
	}
}
