package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	logoutRoute   = "/api/v1/users/logout"
	passwordRoute = "/api/v1/users/me/password"
	meRoute       = "/api/v1/users/me"
)

// logOut ends logins through the gate; an empty scope sends no body.
func (s *stack) logOut(raw, scope string) answer {
	s.t.Helper()
	if scope == "" {
		return s.do(http.MethodPost, logoutRoute, bearer(raw), "")
	}
	return s.postJSON(logoutRoute, bearer(raw), `{"scope":"`+scope+`"}`)
}

func passwordBody(current, next string) string {
	b, _ := json.Marshal(map[string]string{"current_password": current, "new_password": next})
	return string(b)
}

func TestALoginIsASession(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	first, second := s.logIn(u), s.logIn(u)
	claims, other := payloadOf(t, first), payloadOf(t, second)
	for _, name := range []string{"sid", "jti", "auth_time", "iat", "exp", "sub", "email", "company_id"} {
		if claims[name] == nil {
			t.Errorf("the token has no %s: %v", name, claims)
		}
	}
	if claims["sid"] == other["sid"] || claims["jti"] == other["jti"] {
		t.Error("two logins share a session or an id")
	}
	row := s.row(`SELECT user_id::text, company_id::text, ip IS NOT NULL, user_agent, auth_time = valid_from,
		not_after - auth_time = interval '720 hours' FROM sessions WHERE id = $1::text::uuid`, claims["sid"])
	if !slices.Equal(row, []any{u.id, u.company, true, "Go-http-client/1.1", true, true}) {
		t.Errorf("the session is %v", row)
	}
	s.decide(t, first, accepted)
}

func TestLoggingOut(t *testing.T) {
	s := shared(t)
	for _, test := range []struct {
		name   string
		scope  string
		own    refusal
		other  refusal
		legacy refusal
	}{
		{"without a body it ends the login that asks", "", revoked, accepted, accepted},
		{"local is the same", "local", revoked, accepted, accepted},
		{"others keeps the login that asks", "others", accepted, revoked, revoked},
		{"global ends every login", "global", revoked, revoked, revoked},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			u, bystander := s.withPassword(s.newMember()), s.withPassword(s.newMember())
			own, other, legacy, stranger := s.logIn(u), s.logIn(u), token(t, claimsOf(u)), s.logIn(bystander)
			s.decide(t, own, accepted)
			a := s.logOut(own, test.scope)
			if a.status != http.StatusNoContent || a.body != "" || a.header.Get("Content-Type") != "" || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d %q %v", a.status, a.body, a.header)
			}
			s.decide(t, own, test.own)
			s.decide(t, other, test.other)
			s.decide(t, legacy, test.legacy)
			s.decide(t, stranger, accepted)
			s.decide(t, s.logIn(u), accepted)
			if test.own == revoked {
				s.logOut(own, test.scope).expect(t, revoked)
			}
		})
	}
}

// All of this happens within one second, many times over.
func TestRevocationIsExact(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	for i, act := range []func(raw string){
		func(raw string) { s.in(t).logOut(raw, "global") },
		func(string) { s.in(t).command("user", "revoke", u.email) },
		func(string) { s.in(t).sql(`UPDATE users SET tokens_valid_after = now() WHERE id = $1::uuid`, u.id) },
	} {
		for range 5 {
			before := s.logIn(u)
			act(before)
			after := s.logIn(u)
			if a := s.in(t).get(strictRoute, bearer(before)); a.status != http.StatusUnauthorized {
				t.Fatalf("act %d: a token from right before got %d", i, a.status)
			}
			if a := s.in(t).get(strictRoute, bearer(after)); a.status != http.StatusOK {
				t.Fatalf("act %d: a token from right after got %d %s", i, a.status, a.body)
			}
		}
	}
}

// D4: the session goes on, with its beginning and its end.
func TestEnsuringACompanyKeepsTheSession(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	raw := s.logIn(u)
	first := payloadOf(t, raw)
	// The session ends before a token of its own would.
	s.sql(`UPDATE sessions SET not_after = date_trunc('second', now()) + interval '1 hour', auth_time = auth_time - interval '1 hour' WHERE id = $1::text::uuid`, first["sid"])
	a := s.postJSON(initialRoute, bearer(raw), "")
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	next := a.field(t, "new_access_token")
	second := payloadOf(t, next)
	if second["sid"] != first["sid"] || second["jti"] == first["jti"] {
		t.Errorf("the session went from %v to %v", first["sid"], second["sid"])
	}
	if got, want := second["auth_time"].(float64), first["auth_time"].(float64)-3600; got != want {
		t.Errorf("auth_time %v, want the session's, %v", got, want)
	}
	if left := time.Until(time.Unix(int64(second["exp"].(float64)), 0)); left > time.Hour {
		t.Errorf("the token lives for %s, past the session's end", left)
	}
	s.decide(t, next, accepted)
	if err := s.logOut(next, "local").is(http.StatusNoContent); err != nil {
		t.Error(err)
	}
	s.decide(t, raw, revoked)
	s.decide(t, next, revoked)
	s.postJSON(initialRoute, bearer(next), "").expect(t, revoked)
}

func TestChangingThePassword(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	own, other, legacy := s.logIn(u), s.logIn(u), token(t, claimsOf(u))
	const next = "another test-password for e2e"

	a := s.postJSON(passwordRoute, bearer(own), passwordBody("not the password", next))
	a.want(t, http.StatusBadRequest, "Current password is incorrect.")
	if got := a.header.Get("WWW-Authenticate"); got != "" {
		t.Errorf("WWW-Authenticate %q, want none", got)
	}
	for _, test := range []struct {
		name, next string
	}{
		{"short", "seven77"}, {"common", "password123"}, {"the product's name", "GateHouse"},
		{"the address", strings.ToUpper(u.email)}, {"a NUL", "eight888\x00"},
	} {
		if a := s.postJSON(passwordRoute, bearer(own), passwordBody(obviousPassword, test.next)); a.status != http.StatusUnprocessableEntity ||
			!strings.Contains(a.body, `"loc":["body","new_password"]`) || strings.Contains(a.body, test.next) {
			t.Errorf("%s: got %d %s", test.name, a.status, a.body)
		}
	}
	s.decide(t, other, accepted) // nothing has happened so far

	a = s.postJSON(passwordRoute, bearer(own), passwordBody(obviousPassword, next))
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	minted := a.field(t, "new_access_token")
	if a.field(t, "token_type") != "bearer" || a.field(t, "message") == "" || payloadOf(t, minted)["sid"] != payloadOf(t, own)["sid"] {
		t.Errorf("got %s", a.body)
	}
	s.decide(t, minted, accepted)
	s.decide(t, own, accepted) // the same session
	s.decide(t, other, revoked)
	s.decide(t, legacy, revoked)
	s.judged(u.email, obviousPassword).want(t, http.StatusUnauthorized, "Incorrect email or password")
	u.password = next
	s.decide(t, s.logIn(u), accepted)

	// A token without a session gets one.
	u = s.withPassword(s.newMember())
	legacy = token(t, claimsOf(u))
	a = s.postJSON(passwordRoute, bearer(legacy), passwordBody(obviousPassword, next))
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	minted = a.field(t, "new_access_token")
	if payloadOf(t, minted)["sid"] == nil {
		t.Error("the new token has no session")
	}
	s.decide(t, minted, accepted)
	s.decide(t, legacy, revoked)
}

func TestWhoAmI(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	second := s.newCompany()
	s.sql(`INSERT INTO company_members (user_id, company_id, role) VALUES ($1::uuid, $2::uuid, 'admin')`, u.id, second)
	raw := s.logIn(u)
	a := s.get(meRoute, bearer(raw))
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	got := a.object(t)
	companies, _ := got["companies"].([]any)
	if got["user_id"] != u.id || got["email"] != u.email || got["full_name"] != nil || got["role"] != "user" ||
		got["company_id"] != u.company || len(companies) != 2 {
		t.Fatalf("got %s", a.body)
	}
	if c, _ := companies[1].(map[string]any); c["company_id"] != second || c["role"] != "admin" || !strings.HasPrefix(c["name"].(string), "Company ") {
		t.Errorf("the second company is %v", companies[1])
	}
	s.get(meRoute, nil).expect(t, anonymous)
	s.logOut(raw, "")
	s.get(meRoute, bearer(raw)).expect(t, revoked)
}

// The gate in front is not believed: the login service judges by itself.
func TestTheLoginServiceJudgesByItself(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	raw := s.logIn(u)
	s.logOut(raw, "")
	for _, request := range []struct{ method, path, body string }{
		{"POST", logoutRoute, ""},
		{"POST", logoutRoute, `{"scope":"global"}`},
		{"GET", meRoute, ""},
		{"POST", passwordRoute, passwordBody(obviousPassword, "another test-password for e2e")},
		{"POST", initialRoute, ""},
	} {
		forged := bearer(raw)
		forged["X-User-Id"] = []string{u.id}
		s.direct(request.method, request.path, forged, request.body).expect(t, revoked)
		s.direct(request.method, request.path, http.Header{"X-User-Id": {u.id}}, request.body).expect(t, anonymous)
	}
	s.judged(u.email, obviousPassword).expect(t, accepted)
}

func TestASuspendedCompanyByTheCommand(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	raw := s.logIn(u)
	s.sql(`DELETE FROM companies WHERE id = $1::uuid`, u.company) // as an adopted one may have no row
	s.command("company", "suspend", u.company)
	s.decide(t, raw, companyOnHold)
	s.command("company", "resume", u.company)
	s.decide(t, raw, accepted)
}

func TestASessionEndsWhateverHappensInIt(t *testing.T) {
	s := startStack(t, map[string]string{"GATEWAY_SESSION_MAX_LIFETIME": "2h", "GATEWAY_ACCESS_TOKEN_TTL": "24h"})
	u := s.withPassword(s.newMember())
	a := s.judged(u.email, u.password)
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	if n, _ := a.object(t)["expires_in"].(float64); n < 7190 || n > 7200 {
		t.Errorf("expires_in %v, want two hours", n)
	}
	raw := a.field(t, "access_token")
	s.decide(t, raw, accepted)
	s.sql(`UPDATE sessions SET not_after = now() - interval '1 second'`)
	s.decide(t, raw, revoked)
}
