package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

const (
	cannotDecide = "Authorization is temporarily unavailable."
	cannotServe  = "Service is temporarily unavailable."
)

// soon is how late an answer may be that says that something is down.
const soon = 3 * time.Second

// promptly runs one request and fails the test if it took too long.
func promptly(t testing.TB, what string, f func() answer) answer {
	t.Helper()
	watch := stopwatch()
	a := f()
	if overdue(watch, soon) {
		t.Errorf("%s took %v, want at most %v", what, watch.Passed(), soon)
	}
	return a
}

// wantUndecided asks a few times, because a gate that is down has to be so every
// time.
func (s *stack) wantUndecided(t testing.TB, header http.Header) {
	t.Helper()
	for range 5 {
		s.wantRetry(t, promptly(t, "a request", func() answer { return s.get(strictRoute, header) }), cannotDecide)
	}
}

func (s *stack) wantRetry(t testing.TB, a answer, detail string) {
	t.Helper()
	a.want(t, http.StatusServiceUnavailable, detail)
	if got := a.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After = %q, want 1", got)
	}
	if got := a.header.Get("X-Process-Time"); !processTime.MatchString(got) {
		t.Errorf("X-Process-Time = %q", got)
	}
}

// stays fails the test unless an operations page answers 200.
func stays(t testing.TB, url string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, want 200", url, r.Status)
	}
}

func (s *stack) wantDatabaseDown(t testing.TB, u user, good http.Header) {
	t.Helper()
	s.query.forget()
	s.wantUndecided(t, good)
	s.query.none(t)
	a := promptly(t, "/health", func() answer { return s.get("/health", nil) })
	if want := `{"status":"unhealthy","service":"Gatehouse","checks":{"database_connection":"failed"}}`; a.status != http.StatusServiceUnavailable || a.body != want {
		t.Errorf("/health: %d %s, want 503 %s", a.status, a.body, want)
	}
	for name, a := range map[string]answer{
		"login":          s.tryLogin(u.email, u.password),
		"ensure-company": s.direct("POST", initialRoute, good, ""),
	} {
		if a.status != http.StatusServiceUnavailable || a.detail() != cannotServe || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s, Retry-After %q", name, a.status, a.body, a.header.Get("Retry-After"))
		}
	}
	// What needs no database is judged as ever.
	s.get(strictRoute, nil).expect(t, anonymous)
	s.get(strictRoute, bearer("x")).expect(t, malformed)
	if err := s.get("/", nil).is(http.StatusOK); err != nil {
		t.Errorf("/: %v", err)
	}
	// All replicas would leave at once.
	stays(t, s.authzOps+"/readyz")
	stays(t, s.authzOps+"/livez")
	stays(t, s.loginOps+"/livez")
}

func (s *stack) wantDatabaseBack(t testing.TB, u user, good http.Header) {
	t.Helper()
	within(t, 8*time.Second, "the database is used again", func() error { return s.get(strictRoute, good).is(http.StatusOK) })
	within(t, 8*time.Second, "logins work again", func() error { return s.tryLogin(u.email, u.password).is(http.StatusOK) })
	within(t, 8*time.Second, "/health is well again", func() error { return s.get("/health", nil).is(http.StatusOK) })
}

func TestPostgresStopsAndComesBack(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	s := startStackOn(t, server.New(), nil)
	u := s.withPassword(s.newMember())
	good := bearer(token(t, claimsOf(u)))
	for how, down := range map[string]func(){"stopped": server.Stop, "killed": server.Kill} {
		t.Run(how, func(t *testing.T) {
			s := s.in(t)
			s.get(strictRoute, good).expect(t, accepted)
			down()
			s.wantDatabaseDown(t, u, good)
			server.Start()
			s.wantDatabaseBack(t, u, good)
		})
	}
	if s.authzProcess.Err() != nil || s.loginProcess.Err() != nil {
		t.Error("a process has ended")
	}
}

func TestPostgresThatFallsSilent(t *testing.T) {
	t.Parallel()
	database := postgrestest.New(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	between := newProxy(t, u.Host)
	u.Host = between.address
	s := startStackOn(t, database, map[string]string{"GATEWAY_DATABASE_URL": u.String()})
	member := s.withPassword(s.newMember())
	good := bearer(token(t, claimsOf(member)))
	s.get(strictRoute, good).expect(t, accepted)
	between.freeze()
	// What was heard last is trusted until the proof of life is too old.
	eventually(t, "memory is given up", func() error { return s.get(strictRoute, good).is(http.StatusServiceUnavailable) })
	s.query.forget()
	s.wantUndecided(t, good)
	s.query.none(t)
	stays(t, s.authzOps+"/readyz")
	s.get(strictRoute, nil).expect(t, anonymous)
	a := s.get("/health", nil)
	if a.status != http.StatusServiceUnavailable {
		t.Errorf("/health: %d %s, want 503", a.status, a.body)
	}
	between.thaw()
	s.wantDatabaseBack(t, member, good)
}

func TestAuthzDiesFreezesAndComesBack(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	u := s.newMember()
	good := bearer(token(t, claimsOf(u)))
	s.decideHeader(t, good, accepted)

	t.Run("killed", func(t *testing.T) {
		s := s.in(t)
		s.query.forget()
		s.kill(s.authzProcess)
		s.wantUndecided(t, good)
		s.wantUndecided(t, nil)
		s.query.none(t)
		// Routes that ask nobody are served.
		if err := s.get("/health", nil).is(http.StatusOK); err != nil {
			t.Errorf("/health: %v", err)
		}
		s.get("/nowhere", nil).want(t, http.StatusNotFound, "Not Found")
		s.wantRetry(t, s.postJSON(initialRoute, good, ""), cannotDecide)
	})
	s.startAuthz()
	within(t, 5*time.Second, "the gate decides again", func() error { return s.get(strictRoute, good).is(http.StatusOK) })

	t.Run("frozen", func(t *testing.T) {
		s := s.in(t)
		s.query.forget()
		if err := s.authzProcess.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		s.wantUndecided(t, good)
		s.query.none(t)
		if err := s.authzProcess.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "the gate decides again", func() error { return s.get(strictRoute, good).is(http.StatusOK) })
	})
	t.Run("asked to stop", func(t *testing.T) {
		s := s.in(t)
		s.query.forget()
		if err := s.authzProcess.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-s.authzProcess.Done()
		s.wantUndecided(t, good)
		s.query.none(t)
	})
	t.Run("login killed", func(t *testing.T) {
		s := s.in(t)
		s.kill(s.loginProcess)
		for _, a := range []answer{
			promptly(t, "/health", func() answer { return s.get("/health", nil) }),
			promptly(t, "login", func() answer { return s.tryLogin("a@example.com", obviousPassword) }),
		} {
			a.want(t, http.StatusServiceUnavailable, "Could not connect to upstream service.")
		}
		s.startLogin()
		within(t, 5*time.Second, "login is back", func() error { return s.get("/health", nil).is(http.StatusOK) })
	})
	t.Run("an upstream that is not there", func(t *testing.T) {
		s := s.in(t)
		s.startAuthz()
		within(t, 5*time.Second, "the gate decides again", func() error { return s.get(strictRoute, good).is(http.StatusOK) })
		s.query.CloseClientConnections()
		s.query.Close()
		a := promptly(t, "a request", func() answer {
			return s.get(strictRoute, http.Header{"Authorization": good["Authorization"], "Origin": {"http://localhost:3000"}})
		})
		a.want(t, http.StatusServiceUnavailable, "Could not connect to upstream service.")
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "http://localhost:3000" {
			t.Errorf("Access-Control-Allow-Origin = %q", got)
		}
	})
}

func TestAuthzThatNeverSawItsDatabase(t *testing.T) {
	t.Parallel()
	s := newStack(t, postgrestest.New(t), nil)
	s.command("migrate")
	database := s.settings["GATEWAY_DATABASE_URL"]
	s.settings["GATEWAY_DATABASE_URL"] = "postgres://nobody@" + freeAddress(t) + "/nowhere"
	s.launchAuthz()
	eventually(t, "authz lives", func() error {
		r, err := http.Get(s.authzOps + "/livez")
		if err == nil {
			_ = r.Body.Close()
		}
		return err
	})
	r, err := http.Get(s.authzOps + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %s, want 503", r.Status)
	}
	s.startEnvoy()
	s.settings["GATEWAY_DATABASE_URL"] = database
	s.wantUndecided(t, bearer(token(t, claimsOf(s.newMember()))))
	s.query.none(t)
}

// Every log of every process at DEBUG, after all kinds of requests.
func TestLogsSayWhoAndWhyAndNoSecret(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	u := s.withPassword(s.newMember())
	good := token(t, claimsOf(u))
	wrong := sign(t, map[string]any{"alg": "HS256"}, claimsOf(u), "test-secret-of-somebody-else-entirely")
	const wrongPassword = "test-password-that-is-not-right"
	fresh := s.logIn(u)
	s.judged(u.email, wrongPassword).isIncorrect(t)
	s.judged(wrongPassword+"@example.com", wrongPassword).isIncorrect(t) // typed into the wrong field
	s.postJSON("/api/v1/users/login", nil, `{"password":"`+wrongPassword+`"`)
	again := s.ensure(fresh, "").field(t, "new_access_token")
	id := func(name string) http.Header { return http.Header{"X-Request-Id": {name}} }
	with := func(h http.Header, raw string) http.Header { h.Set("Authorization", "Bearer "+raw); return h }
	s.get(strictRoute+"?access_token="+good, with(id("req-allowed"), good))
	s.get(strictRoute, with(id("req-signature"), wrong))
	s.get(strictRoute, with(id("req-company"), token(t, claimsOf(u).without("company_id"))))
	s.get(strictRoute, id("req-anonymous"))
	s.get("/api/v1/auth/x", with(id("req-501"), good))
	s.do("GET", "/nowhere?token="+good, http.Header{"Referer": {"https://app.example.com/?t=" + good}, "Cookie": {"access_token=" + good}}, "")
	s.raw("GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer " + good + "\r\n\r\n")

	for _, test := range []struct{ request, decision, reason, user, company string }{
		{"req-allowed", "allow", "ok", u.id, u.company},
		{"req-signature", "deny", "token_signature", "<nil>", "<nil>"},
		{"req-company", "deny", "company_missing", u.id, "<nil>"},
		{"req-anonymous", "deny", "not_authenticated", "<nil>", "<nil>"},
	} {
		for name, log := range map[string]*record{"Envoy": s.envoyLog, "authz": s.authzLog} {
			eventually(t, name+" logs "+test.request, func() error { _, err := log.find("request_id", test.request); return err })
			line, _ := log.find("request_id", test.request)
			user, company := "user", "company"
			if name == "authz" {
				user, company = "user_id", "company_id"
				if line["duration_ms"] == nil {
					t.Errorf("authz' line says no duration: %v", line)
				}
			}
			for field, want := range map[string]string{"decision": test.decision, "reason": test.reason, user: test.user, company: test.company} {
				if got := fmt.Sprint(line[field]); got != want {
					t.Errorf("%s, %s: %s = %s, want %s", name, test.request, field, got, want)
				}
			}
		}
	}
	line, err := s.loginLog.find("result", "success")
	if err != nil || line["user_id"] != u.id || line["request_id"] == nil {
		t.Errorf("login's line: %v, %v", line, err)
	}

	database, err := url.Parse(s.database)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"the secret": secret, "a password": obviousPassword, "a wrong password": wrongPassword, "the hash": bcryptCost4[4:],
	}
	if p, _ := database.User.Password(); p != "" {
		secrets["the database's password"] = p
	}
	for name, raw := range map[string]string{"a token": good, "a wrong token": wrong, "a token from login": fresh, "a token from ensure-company": again} {
		parts := strings.Split(raw, ".")
		secrets["the payload of "+name], secrets["the signature of "+name] = parts[1], parts[2]
	}
	for log, r := range map[string]*record{"authz": s.authzLog, "login": s.loginLog, "Envoy": s.envoyLog} {
		text := r.String()
		for what, text2 := range secrets {
			if strings.Contains(text, text2) {
				t.Errorf("the log of %s holds %s", log, what)
			}
		}
	}
	if !strings.Contains(s.authzLog.String(), "redacted") && !strings.Contains(s.authzLog.String(), "***") {
		t.Error("authz logs no settings with secrets masked")
	}
}
