package login_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
	"github.com/atenex/gatehouse/login"
)

// migrated is the database as it is after all migrations.
var migrated = postgrestest.NewTemplate(func(ctx context.Context, url string) error {
	_, err := postgres.Migrate(ctx, url, postgres.MigrateOptions{})
	return err
})

// onPostgres is a stage on a real, migrated database.
func onPostgres(t *testing.T, changes ...set) (*stage, *postgres.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := postgres.Open(ctx, postgres.Options{URL: migrated.New(t) + "&connect_timeout=60", MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	changes = append(changes, func(o *login.Options) {
		o.Accounts, o.Sessions, o.Directory, o.Sweeper, o.Companies, o.Database = db, db, db, db, db, db
		o.Throttle, o.Budgets = db, db
		o.Invitations, o.Auditor = db, db
	})
	return newStageWith(t, store{}, password.Options{Upgrade: true, Processors: 5}, changes...), db
}

func create(t *testing.T, db *postgres.Store, account identity.Account) identity.User {
	t.Helper()
	u, err := db.CreateUser(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func person(email, hash string) identity.Account {
	return identity.Account{User: identity.User{Email: email, Active: true}, PasswordHash: hash}
}

func TestLoggingInOnPostgres(t *testing.T) {
	g, db := onPostgres(t)
	ctx := t.Context()
	create(t, db, person("Ada@Example.com", bcryptOf(t, rightWords)))
	create(t, db, person("kate@example.com", g.hash(rightWords)))
	create(t, db, person("unset@example.com", ""))
	inactive := person("inactive@example.com", g.hash(rightWords))
	inactive.Active = false
	create(t, db, inactive)

	// All at once: the hash is replaced under those who are still being judged.
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if w := g.send(credentials(adaEmail, rightWords)); w.Code != http.StatusOK {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	all.Wait()
	now, err := db.AccountByEmail(ctx, adaEmail)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(now.PasswordHash, "$argon2id$") {
		t.Errorf("the hash was not replaced: %q", now.PasswordHash)
	}
	if age := time.Since(now.LastLogin); age > time.Minute {
		t.Errorf("the last login was %v ago", age)
	}

	tests := []struct {
		name  string
		email string
		want  int
	}{
		{"the replaced hash is of the same password", adaEmail, http.StatusOK},
		{"the address in another case", "aDA@EXAMPLE.COM", http.StatusOK},
		{"the Kelvin sign is no k", "\u212aate@example.com", http.StatusUnauthorized},
		{"a user without a password", "unset@example.com", http.StatusUnauthorized},
		{"an inactive user", "inactive@example.com", http.StatusUnauthorized},
		{"nobody", nobodyEmail, http.StatusUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := g.send(credentials(tt.email, rightWords))
			if w.Code != tt.want || tt.want != http.StatusOK && w.Body.String() != badCredentials {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.want)
			}
		})
	}
	for _, email := range []string{"kate@example.com", "inactive@example.com"} {
		if u, err := db.FindUser(ctx, email); err != nil || !u.LastLogin.IsZero() {
			t.Errorf("%s: last login %v, %v; want none", email, u.LastLogin, err)
		}
	}
}

func TestEnsuringACompanyOnPostgres(t *testing.T) {
	var home postgres.Company
	g, db := onPostgres(t, func(o *login.Options) { o.DefaultCompany = acme })
	home, err := db.CreateCompany(t.Context(), "Home")
	if err != nil {
		t.Fatal(err)
	}
	create(t, db, person(adaEmail, g.hash(rightWords)))
	raw, _ := decodeBody(t, g.send(credentials(adaEmail, rightWords)))["access_token"].(string)
	// Each step stands on the one before.
	steps := []struct {
		name string
		body string
		want int
		text string
	}{
		{"a company that nobody invited to", `{"company_id":"` + home.ID.String() + `"}`, 403, "You are not allowed to join this company."},
		{"a company that does not exist", `{"company_id":"` + globex.String() + `"}`, 403, "You are not allowed to join this company."},
		{"the default for one who has none", ``, 200, "Company association successfully updated to " + acme.String() + "."},
		{"the current one, by name", `{"company_id":"` + acme.String() + `"}`, 200, "Company association confirmed as " + acme.String() + "."},
		{"the current one, unnamed", `null`, 200, "Company association confirmed as " + acme.String() + "."},
		{"an invitation that does not exist", `{"invitation_token":"some words"}`, 403, "You are not allowed to join this company."},
	}
	for _, step := range steps {
		r := post(ensurePath, step.body)
		r.Header.Set("Authorization", "Bearer "+raw)
		w := g.send(r)
		body := decodeBody(t, w)
		got := body["detail"]
		if w.Code == http.StatusOK {
			got = body["message"]
			raw, _ = body["new_access_token"].(string)
			if c, err := g.verifier.Verify(raw, time.Now()); err != nil || c.Company != acme {
				t.Errorf("%s: the token says %+v, %v", step.name, c, err)
			}
		}
		if w.Code != step.want || got != step.text {
			t.Errorf("%s: got %d %s", step.name, w.Code, w.Body)
		}
	}
	u, err := db.FindUser(t.Context(), adaEmail)
	if err != nil || u.Company != acme {
		t.Fatalf("ada is in %v, %v", u.Company, err)
	}
	if _, err := db.SetActive(t.Context(), u.ID, false); err != nil {
		t.Fatal(err)
	}
	r := post(ensurePath, "")
	r.Header.Set("Authorization", "Bearer "+raw)
	if w := g.send(r); w.Code != http.StatusUnauthorized || decodeBody(t, w)["detail"] != "User associated with token is inactive." {
		t.Errorf("after the user was disabled: %d %s", w.Code, w.Body)
	}
}

// accepted reports whether a token opens a door.
func (g *stage) accepted(raw string) bool {
	g.t.Helper()
	switch w := g.send(asUser(httptest.NewRequest(http.MethodGet, mePath, nil), raw)); w.Code {
	case http.StatusOK:
		return true
	case http.StatusUnauthorized:
		return false
	default:
		g.t.Fatalf("got %d %s", w.Code, w.Body)
		return false
	}
}

// logIn is the token of a login that must succeed.
func (g *stage) logIn(email, words string) string {
	g.t.Helper()
	w := g.send(credentials(email, words))
	if w.Code != http.StatusOK {
		g.t.Fatalf("got %d %s", w.Code, w.Body)
	}
	raw, _ := decodeBody(g.t, w)["access_token"].(string)
	return raw
}

func (g *stage) session(raw string) identity.SessionID {
	g.t.Helper()
	c, err := g.verifier.Verify(raw, time.Now())
	if err != nil {
		g.t.Fatal(err)
	}
	return c.Session
}

// A token from right before an act is refused and one from right after it is
// accepted, however many of them fall into one second.
func TestRevocationIsExactOnPostgres(t *testing.T) {
	g, db := onPostgres(t)
	create(t, db, person(adaEmail, g.hash(rightWords)))
	acts := []func(raw string) (own string){
		func(raw string) string { g.logOut(raw, "global"); return "" },
		func(raw string) string { g.logOut(raw, "others"); return raw },
		func(raw string) string {
			w := g.send(asUser(post(passwordPath, passwordBody(rightWords, rightWords)), raw))
			own, _ := decodeBody(t, w)["new_access_token"].(string)
			return own
		},
	}
	for i := range 51 {
		asking, before := g.logIn(adaEmail, rightWords), g.logIn(adaEmail, rightWords)
		own := acts[i%3](asking)
		after := g.logIn(adaEmail, rightWords)
		if g.accepted(before) || !g.accepted(after) {
			t.Fatalf("round %d: the token from before is accepted: %v, that from after: %v", i, g.accepted(before), g.accepted(after))
		}
		if own != "" && !g.accepted(own) || own == "" && g.accepted(asking) {
			t.Fatalf("round %d: the token that asked is accepted: %v", i, g.accepted(asking))
		}
	}
}

func (g *stage) logOut(raw, scope string) {
	g.t.Helper()
	if w := g.send(asUser(post(logoutPath, `{"scope":"`+scope+`"}`), raw)); w.Code != http.StatusNoContent || w.Body.Len() != 0 {
		g.t.Fatalf("got %d %s", w.Code, w.Body)
	}
}

// Of two changes at once from one password, one goes through: the other was
// proved against a password that is no longer there.
func TestTwoPasswordChangesAtOnceOnPostgres(t *testing.T) {
	for _, tt := range []struct {
		name string
		same bool // one session asks twice
	}{{"from one session", true}, {"from two sessions", false}} {
		t.Run(tt.name, func(t *testing.T) {
			g, db := onPostgres(t)
			create(t, db, person(adaEmail, g.hash(rightWords)))
			raw := []string{g.logIn(adaEmail, rightWords), g.logIn(adaEmail, rightWords)}
			if tt.same {
				raw[1] = raw[0]
			}
			next := []string{"the first of other words", "the second of other words"}
			status := make([]int, 2)
			var both sync.WaitGroup
			for i := range raw {
				both.Go(func() {
					status[i] = g.send(asUser(post(passwordPath, passwordBody(rightWords, next[i])), raw[i])).Code
				})
			}
			both.Wait()
			lost := http.StatusUnauthorized // its session was ended by the other
			if tt.same {
				lost = http.StatusBadRequest
			}
			won := 0
			if status[1] == http.StatusOK {
				won = 1
			}
			if got := status[1-won]; status[won] != http.StatusOK || got != lost && got != http.StatusBadRequest {
				t.Fatalf("the answers are %v, want %d and %d", status, http.StatusOK, lost)
			}
			if w := g.send(credentials(adaEmail, next[1-won])); w.Code != http.StatusUnauthorized {
				t.Errorf("the password that was refused opens: %d", w.Code)
			}
			g.logIn(adaEmail, next[won])
		})
	}
}

// Whichever comes first, no token of a session survives its end.
func TestLogoutBesideEnsureCompanyOnPostgres(t *testing.T) {
	g, db := onPostgres(t, func(o *login.Options) { o.DefaultCompany = acme })
	create(t, db, person(adaEmail, g.hash(rightWords)))
	for i := range 10 {
		raw := g.logIn(adaEmail, rightWords)
		next := ""
		var both sync.WaitGroup
		both.Go(func() { g.logOut(raw, "local") })
		both.Go(func() {
			w := g.send(asUser(post(ensurePath, ""), raw))
			if w.Code != http.StatusOK && w.Code != http.StatusUnauthorized {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			next, _ = decodeBody(t, w)["new_access_token"].(string)
		})
		both.Wait()
		if g.accepted(raw) || next != "" && g.accepted(next) {
			t.Fatalf("round %d: a token of a session that was ended is accepted", i)
		}
	}
}

func TestATokenWithoutASessionOnPostgres(t *testing.T) {
	g, db := onPostgres(t)
	account := person(adaEmail, g.hash(rightWords))
	account.ID = ada
	tests := []struct {
		name    string
		act     func(raw string)
		session bool // a session of the same user goes on
	}{
		{"logs out, and every other without one with it", func(raw string) { g.logOut(raw, "local") }, true},
		{"logs the others out, and ends with them", func(raw string) { g.logOut(raw, "others") }, false},
		{"logs everybody out", func(raw string) { g.logOut(raw, "global") }, false},
		{"changes the password and gets a session", func(raw string) {
			w := g.send(asUser(post(passwordPath, passwordBody(rightWords, rightWords)), raw))
			next, _ := decodeBody(t, w)["new_access_token"].(string)
			if g.session(next).IsZero() || !g.accepted(next) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		}, false},
	}
	create(t, db, account)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, other, asking := g.logIn(adaEmail, rightWords), legacyToken(t), legacyToken(t)
			// The mark that the last test left may lie in this second.
			accepted := func() bool { return g.accepted(raw) && g.accepted(other) && g.accepted(asking) }
			for deadline := time.Now().Add(30 * time.Second); !accepted() && time.Now().Before(deadline); {
				raw, other, asking = g.logIn(adaEmail, rightWords), legacyToken(t), legacyToken(t)
			}
			if !accepted() {
				t.Fatal("a token is refused before anything happened")
			}
			tt.act(asking)
			if g.accepted(asking) || g.accepted(other) || g.accepted(raw) != tt.session {
				t.Errorf("the token that asked is accepted: %v, another: %v, the session: %v; want false, false, %v",
					g.accepted(asking), g.accepted(other), g.accepted(raw), tt.session)
			}
		})
	}
}

func TestWhoAmIOnPostgres(t *testing.T) {
	g, db := onPostgres(t)
	home, err := db.CreateCompany(t.Context(), "Home")
	if err != nil {
		t.Fatal(err)
	}
	full := person(adaEmail, g.hash(rightWords))
	full.FullName, full.Role, full.Company = "Ada Lovelace", "admin", home.ID
	bare := person("bare@example.com", g.hash(rightWords))
	tests := []struct {
		name    string
		account identity.Account
		want    map[string]any
	}{
		{"a user with everything", full, map[string]any{
			"email": adaEmail, "full_name": "Ada Lovelace", "role": "admin", "company_id": home.ID.String(),
			"companies": []any{map[string]any{"company_id": home.ID.String(), "name": "Home", "role": "admin"}},
		}},
		{"a user with nothing but an address", bare, map[string]any{
			"email": "bare@example.com", "full_name": nil, "role": "user", "company_id": nil, "companies": []any{},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want["user_id"] = create(t, db, tt.account).ID.String()
			w := g.send(asUser(httptest.NewRequest(http.MethodGet, mePath, nil), g.logIn(tt.account.Email, rightWords)))
			if diff := cmp.Diff(tt.want, decodeBody(t, w)); w.Code != http.StatusOK || diff != "" {
				t.Errorf("got %d (-want +got):\n%s", w.Code, diff)
			}
		})
	}
}

func TestAnsweringWithoutPostgres(t *testing.T) {
	g, db := onPostgres(t)
	db.Close()
	for path, r := range map[string]*http.Request{
		"login": credentials(adaEmail, rightWords), "ensure-company": post(ensurePath, ""), "logout": post(logoutPath, ""),
		"password": post(passwordPath, passwordBody(rightWords, wrongWords)), "me": httptest.NewRequest(http.MethodGet, mePath, nil),
	} {
		r.Header.Set("Authorization", "Bearer "+g.tokenOf(nativeGrant()))
		if w := g.send(r); w.Code != http.StatusServiceUnavailable || w.Body.String() != unavailable || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: got %d %s, Retry-After %q", path, w.Code, w.Body, w.Header().Get("Retry-After"))
		}
	}
}
