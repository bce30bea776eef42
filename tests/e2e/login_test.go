package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// incorrect is the one refusal of every failed login.
const incorrect = "Incorrect email or password"

func (a answer) isIncorrect(t testing.TB) {
	t.Helper()
	a.expect(t, refusal{http.StatusUnauthorized, incorrect, "Bearer"})
	guarded(t, a)
}

// guarded fails the test unless the answer is marked as nobody's to keep.
func guarded(t testing.TB, a answer) {
	t.Helper()
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q, want no-store", got)
	}
	if got := a.header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options = %q, want nosniff", got)
	}
}

func TestALogin(t *testing.T) {
	s := shared(t)
	company := s.newCompany()
	email := "Ada." + s.newUUID()[:8] + "@Example.com"
	id := strings.TrimSpace(s.commandWith(obviousPassword+"\n", "user", "create", email, "--name", "Ada Lovelace", "--company", company, "--password-stdin"))

	a := s.judged(strings.ToUpper(email), obviousPassword)
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	guarded(t, a)
	got := a.object(t)
	raw := a.field(t, "access_token")
	for name, want := range map[string]any{
		"token_type": "bearer", "user_id": id, "email": email, "full_name": "Ada Lovelace", "role": "user", "company_id": company,
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	c := payloadOf(t, raw)
	for name, want := range map[string]any{"sub": id, "email": email, "company_id": company} {
		if c[name] != want {
			t.Errorf("claim %s = %v, want %v", name, c[name], want)
		}
	}
	issued, _ := c["iat"].(float64)
	until, _ := c["exp"].(float64)
	if age := time.Since(time.Unix(int64(issued), 0)); age < -time.Second || age > time.Minute || until-issued != (24*time.Hour).Seconds() {
		t.Errorf("iat %v, exp %v; want now, and 24 h later", c["iat"], c["exp"])
	}
	s.decide(t, raw, accepted)
	if since := s.text(`SELECT last_login > now() - interval '1 minute' FROM users WHERE id = $1::uuid`, id); since != "true" {
		t.Errorf("last_login was not set")
	}
	// The same straight at the service, and for somebody without name and company.
	plain := s.withPassword(s.newUser(""))
	b := s.direct("POST", "/api/v1/users/login", nil, credentials(plain.email, plain.password))
	if err := b.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	guarded(t, b)
	for _, name := range []string{"full_name", "company_id"} {
		if v, there := b.object(t)[name]; !there || v != nil {
			t.Errorf("%s = %v (there: %v), want null", name, v, there)
		}
	}
	if _, there := payloadOf(t, b.field(t, "access_token"))["company_id"]; there {
		t.Error("the token of a user without a company names one")
	}
	s.decide(t, b.field(t, "access_token"), noCompany)
}

func TestOldHashesVerifyAndAreUpgraded(t *testing.T) {
	s := shared(t)
	for _, hash := range []string{"$2a$" + bcryptCost4, "$2b$" + bcryptCost5, "$2y$" + bcryptCost6} {
		t.Run(hash[:7], func(t *testing.T) {
			s := s.in(t)
			u := s.newMember()
			s.sql(`UPDATE users SET hashed_password = $2 WHERE id = $1::uuid`, u.id, hash)
			s.judged(u.email, obviousPassword+"x").isIncorrect(t)
			if got := s.text(`SELECT hashed_password FROM users WHERE id = $1::uuid`, u.id); got != hash {
				t.Errorf("a failed login changed the hash")
			}
			for range 2 { // the old hash, then the new one
				if err := s.judged(u.email, obviousPassword).is(http.StatusOK); err != nil {
					t.Fatal(err)
				}
				if got := s.text(`SELECT hashed_password FROM users WHERE id = $1::uuid`, u.id); !strings.HasPrefix(got, "$argon2id$") {
					t.Errorf("the hash is %.8s…, want argon2id", got)
				}
			}
		})
	}
}

func TestEveryRefusedLoginIsTheSame(t *testing.T) {
	s := shared(t)
	for _, test := range []struct {
		name     string
		hash     any
		active   any
		password string
	}{
		{"a wrong password", "$2b$" + bcryptCost4, true, "test-password-that-is-wrong"},
		{"a prefix of the password", "$2b$" + bcryptCost4, true, obviousPassword[:12]},
		{"another case", "$2b$" + bcryptCost4, true, strings.ToUpper(obviousPassword)},
		{"an inactive user", "$2b$" + bcryptCost4, false, obviousPassword},
		{"activity unknown", "$2b$" + bcryptCost4, nil, obviousPassword},
		{"no password set", nil, true, obviousPassword},
		{"an empty hash", "", true, obviousPassword},
		{"the password in clear", obviousPassword, true, obviousPassword},
		{"2x", "$2x$" + bcryptCost4, true, obviousPassword},
		{"2", "$2$" + bcryptCost4, true, obviousPassword},
		{"an absurd cost", "$2b$31" + bcryptCost4[2:], true, obviousPassword},
		{"a cost out of range", "$2b$99" + bcryptCost4[2:], true, obviousPassword},
		{"a cut hash", ("$2b$" + bcryptCost4)[:40], true, obviousPassword},
		{"a hash and more", "$2b$" + bcryptCost4 + "x", true, obviousPassword},
		{"argon2id with absurd memory", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNoc29tZWhhc2g", true, obviousPassword},
		{"argon2id with absurd time", "$argon2id$v=19$m=65536,t=4294967295,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNoc29tZWhhc2g", true, obviousPassword},
		{"argon2i", "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNoc29tZWhhc2g", true, obviousPassword},
		{"another scheme", "$6$rounds=5000$salt$hash", true, obviousPassword},
		{"72 bytes and one", longHash, true, longPassword + "x"},
		{"72 bytes and many", longHash, true, longPassword + strings.Repeat("é", 200)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // each of them takes its time
			s := s.in(t)
			u := s.newMember()
			s.sql(`UPDATE users SET hashed_password = $2, is_active = $3 WHERE id = $1::uuid`, u.id, test.hash, test.active)
			watch := stopwatch()
			s.judged(u.email, test.password).isIncorrect(t)
			if overdue(watch, 10*time.Second) {
				t.Errorf("it took %v", watch.Passed())
			}
			if got := s.row(`SELECT last_login, hashed_password FROM users WHERE id = $1::uuid`, u.id); got[0] != nil || got[1] != test.hash {
				t.Errorf("the row has changed")
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		s.in(t).judged("nobody-"+s.newUUID()+"@example.com", obviousPassword).isIncorrect(t)
	})
	t.Run("all 72 bytes", func(t *testing.T) {
		s := s.in(t)
		u := s.newMember()
		s.sql(`UPDATE users SET hashed_password = $2 WHERE id = $1::uuid`, u.id, longHash)
		if err := s.judged(u.email, longPassword).is(http.StatusOK); err != nil {
			t.Error(err)
		}
	})
	t.Run("letters that only Unicode folds", func(t *testing.T) {
		s := s.in(t)
		u := s.withPassword(s.newMember())
		s.sql(`UPDATE users SET email = 'k' || email WHERE id = $1::uuid`, u.id)
		s.judged("\u212a"+u.email, u.password).isIncorrect(t) // the Kelvin sign
		if err := s.judged("K"+u.email, u.password).is(http.StatusOK); err != nil {
			t.Error(err)
		}
	})
}

// fault is one element of a 422.
type fault struct {
	Type string   `json:"type"`
	Loc  []string `json:"loc"`
	Msg  string   `json:"msg"`
}

// wantInvalid checks the form of a 422, and that it repeats nothing.
func wantInvalid(t *testing.T, a answer, secrets []string, fields ...string) {
	t.Helper()
	if err := a.is(http.StatusUnprocessableEntity); err != nil {
		t.Fatal(err)
	}
	guarded(t, a)
	var body struct{ Detail []fault }
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || len(body.Detail) == 0 {
		t.Fatalf("%v: %s", err, a.body)
	}
	var got []string
	for _, f := range body.Detail {
		if f.Type == "" || f.Msg == "" || len(f.Loc) == 0 || f.Loc[0] != "body" {
			t.Errorf("a fault without its parts: %s", a.body)
		}
		if len(f.Loc) > 1 {
			got = append(got, f.Loc[1])
		}
	}
	slices.Sort(got)
	if fields != nil && !slices.Equal(got, fields) {
		t.Errorf("faults of %v, want %v: %s", got, fields, a.body)
	}
	for _, s := range secrets {
		if strings.Contains(a.body, s) {
			t.Errorf("the answer repeats %q: %s", s, a.body)
		}
	}
}

func TestBodiesAreReadStrictly(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	good := credentials(u.email, u.password)
	const marker = "never-to-be-repeated"
	for _, test := range []struct {
		name, body string
		fields     []string // nil: the body as a whole
	}{
		{"no body", ``, nil},
		{"null", `null`, nil},
		{"an empty object", `{}`, []string{"email", "password"}},
		{"a list", `["` + marker + `"]`, nil},
		{"a text", `"` + marker + `"`, nil},
		{"no JSON", marker, nil},
		{"half of it", good[:len(good)-3], nil},
		{"two values", good + good, nil},
		{"something behind it", good + marker, nil},
		{"a duplicate key", `{"password":"` + marker + `",` + good[1:], nil},
		{"a duplicate key nobody reads", `{"x":1,"x":2,` + good[1:], nil},
		{"a key in another case", `{"Password":"` + marker + `",` + good[1:], nil},
		{"only keys in another case", strings.Replace(good, "email", "EMAIL", 1), nil},
		{"invalid UTF-8", strings.Replace(good, "test", "te\xffst", 1), nil},
		{"a lone surrogate", strings.Replace(good, "test", `\ud800`, 1), nil},
		{"a comment", "/* x */" + good, nil},
		{"single quotes", strings.ReplaceAll(good, `"`, `'`), nil},
		{"a byte order mark", "\ufeff" + good, nil},
		{"very deep", strings.Repeat(`[`, 10_000), nil},
		{"a number as the email", `{"email":7,"password":"` + marker + `"}`, []string{"email"}},
		{"null as the password", `{"email":"` + u.email + `","password":null}`, []string{"password"}},
		{"an object as the password", `{"email":"` + u.email + `","password":{"$ne":"` + marker + `"}}`, []string{"password"}},
		{"no email address", credentials(marker, marker), []string{"email"}},
		{"an email with a line end", credentials("a@example.com\n"+marker, obviousPassword), []string{"email"}},
		{"an email of 255 characters", credentials(strings.Repeat("a", 64)+"@"+strings.Repeat(strings.Repeat("b", 60)+".", 4)+"example", obviousPassword), []string{"email"}},
		{"a short password", credentials(u.email, "12345"), []string{"password"}},
		{"a long password", credentials(u.email, strings.Repeat("é", 1025)), []string{"password"}},
		{"a NUL in the password", credentials(u.email, marker+"\x00"), []string{"password"}},
		{"both wrong", credentials("x", "y"), []string{"email", "password"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			wantInvalid(t, s.postJSON("/api/v1/users/login", nil, test.body), []string{marker, obviousPassword, u.email}, test.fields...)
		})
	}
	for name, body := range map[string]string{
		"unknown keys": `{"remember":true,"scope":{"a":[1]},` + good[1:],
		"escapes":      strings.Replace(good, "password\":\"t", `password":"\u0074`, 1),
		"control characters in the password are characters": credentials(u.email, "\x01\t\u2028"+obviousPassword),
	} {
		a := s.postJSON("/api/v1/users/login", nil, body)
		if want := map[bool]int{true: 401, false: 200}[strings.HasPrefix(name, "control")]; a.status != want {
			t.Errorf("%s: got %d %s, want %d", name, a.status, a.body, want)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	s := shared(t)
	big := credentials("a@example.com", strings.Repeat("x", 70<<10))
	post := func(base string, body io.Reader, length int64, contentType ...string) answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/users/login", body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		if contentType != nil {
			r.Header["Content-Type"] = contentType
		}
		a, err := client.Do(r)
		if err != nil {
			return answer{err: err}
		}
		defer func() { _ = a.Body.Close() }()
		b, err := io.ReadAll(a.Body)
		return answer{status: a.StatusCode, header: a.Header, body: string(b), err: err}
	}
	for where, base := range map[string]string{"through the gate": s.gateway, "direct": s.login} {
		for how, length := range map[string]int64{"with a length": int64(len(big)), "chunked": -1} {
			t.Run(where+", "+how, func(t *testing.T) {
				a := post(base, strings.NewReader(big), length, "application/json")
				a.want(t, http.StatusRequestEntityTooLarge, "Request body too large.")
				guarded(t, a)
			})
		}
	}
	exact := credentials("nobody@example.com", obviousPassword)
	exact += strings.Repeat(" ", 64<<10-len(exact))
	if a := post(s.gateway, strings.NewReader(exact), int64(len(exact)), "application/json"); a.status != http.StatusUnauthorized {
		t.Errorf("64 KiB: got %d %s, want 401", a.status, a.body)
	}

	body := credentials("nobody@example.com", obviousPassword)
	for _, types := range [][]string{nil, {"text/plain"}, {"application/x-www-form-urlencoded"}, {"application/jsonp"}, {"text/json"}, {"application/json; charset=utf-16"}, {"application/json", "text/plain"}} {
		a := post(s.gateway, strings.NewReader(body), int64(len(body)), types...)
		if a.status != http.StatusUnsupportedMediaType || a.detail() != "Content-Type must be application/json." {
			t.Errorf("%q: got %d %s, want 415", types, a.status, a.body)
		}
	}
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		if a := post(s.gateway, strings.NewReader(body), int64(len(body)), contentType); a.status != http.StatusUnauthorized {
			t.Errorf("%q: got %d %s, want 401", contentType, a.status, a.body)
		}
	}
}

func TestTheLoginServiceByItself(t *testing.T) {
	s := shared(t)
	for _, test := range []struct {
		method, path string
		status       int
		detail       string
		allow        string
	}{
		{"GET", "/api/v1/users/login", 405, "Method Not Allowed", "POST"},
		{"PUT", "/api/v1/users/login", 405, "Method Not Allowed", "POST"},
		{"GET", "/api/v1/users/me/ensure-company", 405, "Method Not Allowed", "POST"},
		{"POST", "/health", 405, "Method Not Allowed", "GET"},
		{"POST", "/", 405, "Method Not Allowed", "GET"},
		{"GET", "/api/v1/users/login/", 404, "Not Found", ""},
		{"GET", "/api/v1/users/me", 401, "Not authenticated", ""},
		{"POST", "/api/v1/users/logout", 401, "Not authenticated", ""},
		{"POST", "/api/v1/users/me/password", 401, "Not authenticated", ""},
		{"DELETE", "/api/v1/users/logout", 405, "Method Not Allowed", "POST"},
		{"POST", "/api/v1/auth/register", 403, "Registration is disabled.", ""},
		{"GET", "/api/v1/auth/register", 405, "Method Not Allowed", "POST"},
		{"POST", "/.well-known/jwks.json", 405, "Method Not Allowed", "GET"},
		{"GET", "/metrics", 404, "Not Found", ""},
		{"GET", "/debug/pprof/", 404, "Not Found", ""},
	} {
		a := s.direct(test.method, test.path, nil, "")
		a.want(t, test.status, test.detail)
		guarded(t, a)
		if got := a.header.Get("Allow"); got != test.allow {
			t.Errorf("%s %s: Allow = %q, want %q", test.method, test.path, got, test.allow)
		}
	}
	// For Envoy, which asks each replica whether it is about to stop; no route leads there.
	if a := s.direct("GET", "/readyz", nil, ""); a.status != http.StatusOK || a.body != "ok\n" {
		t.Errorf("/readyz: %d %q", a.status, a.body)
	}
	s.get("/readyz", nil).want(t, 404, "Not Found")
	for path, want := range map[string]string{
		"/":       `{"message":"Gatehouse is running!"}`,
		"/health": `{"status":"healthy","service":"Gatehouse","checks":{"database_connection":"ok"}}`,
	} {
		for _, a := range []answer{s.direct("GET", path, nil, ""), s.get(path, nil)} {
			if a.status != http.StatusOK || a.body != want || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %s, want %s", path, a.status, a.body, want)
			}
			guarded(t, a)
		}
	}
}

func TestManyLoginsAtOnceAreAllAnswered(t *testing.T) {
	s := shared(t)
	u := s.withPassword(s.newMember())
	answers := make(chan answer)
	const n = 24
	for i := range n {
		password := u.password
		if i%2 == 0 {
			password = fmt.Sprintf("test-password-%d", i)
		}
		go func() { answers <- s.tryLogin(u.email, password) }()
	}
	for range n {
		switch a := <-answers; {
		case a.err != nil:
			t.Error(a.err)
		case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "": // no permit in time
		case a.status != http.StatusOK && a.status != http.StatusUnauthorized:
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
}
