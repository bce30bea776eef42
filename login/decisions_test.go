package login_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
	"github.com/atenex/gatehouse/internal/token"
	"github.com/atenex/gatehouse/login"
)

// The decisions on who a user is and where it belongs, as a client meets them.
// D8 and D9 are of registration, D12 of the route table, D14 of the keys and D15
// of the database, and are tested there.

func TestDecisionsOnCompanies(t *testing.T) {
	p := newPeople(t)
	ada := p.token("ada")
	asks := func(t *testing.T, raw, body string) (int, string) {
		t.Helper()
		w := p.as(raw, http.MethodPost, ensurePath, body)
		return w.Code, w.Body.String()
	}
	t.Run("D1 an invitation of an address takes the secret too, unless the address is verified", func(t *testing.T) {
		made := decodeBody(t, p.as(ada, http.MethodPost, invitationsOf(p.home), `{"email":"cy@example.com"}`))
		cy := p.token("cy")
		if status, body := asks(t, cy, `{"company_id":"`+p.home.String()+`"}`); status != http.StatusForbidden {
			t.Errorf("without the secret: %d %s", status, body)
		}
		if status, body := asks(t, cy, `{"company_id":"`+p.home.String()+`","invitation_token":"`+made["token"].(string)+`"}`); status != http.StatusOK {
			t.Errorf("with it: %d %s", status, body)
		}
	})
	t.Run("D2 a role is of one company and read from the database", func(t *testing.T) {
		// A token says what it likes.
		forged := p.tokenOf(token.Grant{User: p.ids["eve"], Email: "eve@example.com", Company: p.home, Roles: []string{"admin"}})
		if w := p.as(forged, http.MethodGet, invitationsOf(p.home), ""); w.Code != http.StatusForbidden {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if w := p.as(ada, http.MethodGet, invitationsOf(p.away), ""); w.Code != http.StatusForbidden {
			t.Errorf("an admin elsewhere: %d %s", w.Code, w.Body)
		}
	})
	t.Run("D4 the session goes on, with its beginning and its end", func(t *testing.T) {
		w := p.as(ada, http.MethodPost, ensurePath, `{"company_id":"`+p.away.String()+`"}`)
		next, _ := decodeBody(t, w)["new_access_token"].(string)
		before, after := claimsIn(t, ada), claimsIn(t, next)
		if before["sid"] == nil || before["sid"] != after["sid"] || before["auth_time"] != after["auth_time"] {
			t.Errorf("before %v\nafter  %v", before, after)
		}
	})
	t.Run("D13 a foreign company and one that nobody has are refused alike", func(t *testing.T) {
		eve := p.token("eve")
		foreign, one := asks(t, eve, `{"company_id":"`+p.away.String()+`"}`)
		unknown, other := asks(t, eve, `{"company_id":"`+acme.String()+`"}`)
		if foreign != http.StatusForbidden || foreign != unknown || one != other {
			t.Errorf("%d %s and %d %s", foreign, one, unknown, other)
		}
	})
}

func TestD3TheDefaultCompanyIsForThoseWhoHaveNone(t *testing.T) {
	g, db := onPostgres(t, func(o *login.Options) { o.DefaultCompany = acme })
	home, err := db.CreateCompany(t.Context(), "Home")
	if err != nil {
		t.Fatal(err)
	}
	hash := g.hash(rightWords)
	settled := person("settled@example.com", hash)
	settled.Company = home.ID
	create(t, db, settled)
	create(t, db, person("new@example.com", hash))
	for email, want := range map[string]string{"settled@example.com": home.ID.String(), "new@example.com": acme.String()} {
		raw, _ := decodeBody(t, g.send(credentials(email, rightWords)))["access_token"].(string)
		r := post(ensurePath, "")
		r.Header.Set("Authorization", "Bearer "+raw)
		if got := decodeBody(t, g.send(r))["company_id"]; got != want {
			t.Errorf("%s came to %v, want %s", email, got, want)
		}
	}
}

// M9: the mark of a revocation has microseconds, and iat has whole seconds.
func TestD5ALoginInTheSecondOfARevocationStands(t *testing.T) {
	g, db := onPostgres(t)
	user := create(t, db, person(adaEmail, g.hash(rightWords)))
	logIn := func() string {
		raw, _ := decodeBody(t, g.send(credentials(adaEmail, rightWords)))["access_token"].(string)
		return raw
	}
	asks := func(raw string) int {
		r := post(mePath, "")
		r.Method = http.MethodGet
		r.Header.Set("Authorization", "Bearer "+raw)
		return g.send(r).Code
	}
	for range 3 {
		before := logIn()
		if _, err := db.RevokeUser(t.Context(), user.ID); err != nil {
			t.Fatal(err)
		}
		after := logIn() // with the same iat, more often than not
		if got := asks(before); got != http.StatusUnauthorized {
			t.Errorf("the one before: %d", got)
		}
		if got := asks(after); got != http.StatusOK {
			t.Errorf("the one after: %d", got)
		}
	}
}

func TestD6AndD7HashesAndTheirUpgrade(t *testing.T) {
	long := strings.Repeat("a", 72) + "tail"
	for _, c := range []struct {
		name    string
		options password.Options
		words   string
		status  int
		scheme  string // of the row afterwards
	}{
		{"D6 an old hash is upgraded", password.Options{Upgrade: true}, rightWords, 200, "$argon2id$"},
		{"D6 or is not", password.Options{}, rightWords, 200, "$2a$"},
		{"D6 the other scheme is no better", password.Options{Scheme: password.Bcrypt, Upgrade: true}, rightWords, 200, "$2a$"},
		{"D7 more than 72 bytes do not match", password.Options{Upgrade: true}, long, 401, "$2a$"},
		{"D7 unless they are cut, and then the row stays", password.Options{Upgrade: true, BcryptTruncate72: true}, long, 200, "$2a$"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := postgrestest.New(t)
			if _, err := postgres.Migrate(t.Context(), url, postgres.MigrateOptions{}); err != nil {
				t.Fatal(err)
			}
			db, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 4})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(db.Close)
			g := newStageWith(t, store{}, c.options, func(o *login.Options) {
				o.Accounts, o.Sessions, o.Directory, o.Companies, o.Database = db, db, db, db, db
			})
			create(t, db, person(adaEmail, bcryptOf(t, c.words[:min(len(c.words), 72)])))
			if w := g.send(credentials(adaEmail, c.words)); w.Code != c.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, c.status)
			}
			now, err := db.AccountByEmail(t.Context(), adaEmail)
			if err != nil || !strings.HasPrefix(now.PasswordHash, c.scheme) {
				t.Errorf("the hash is %.10s…, %v; want %s", now.PasswordHash, err, c.scheme)
			}
		})
	}
}

// M10: lower() of some locales makes k of the Kelvin sign.
func TestD10AndD11WhoCannotLogInIsToldTheSame(t *testing.T) {
	g, db := onPostgres(t)
	create(t, db, person("kate@example.com", g.hash(rightWords)))
	create(t, db, person("unset@example.com", ""))
	create(t, db, person("garbage@example.com", "!"))
	for name, email := range map[string]string{
		"D10 nobody": nobodyEmail, "D10 no password": "unset@example.com", "D10 no hash": "garbage@example.com",
		"D11 the Kelvin sign is no k": "\u212aate@example.com",
	} {
		start := time.Now()
		w := g.send(credentials(email, rightWords))
		if w.Code != http.StatusUnauthorized || w.Body.String() != badCredentials || time.Since(start) < 250*time.Millisecond {
			t.Errorf("%s: %d %s after %v", name, w.Code, w.Body, time.Since(start))
		}
	}
	if w := g.send(credentials("KATE@Example.com", rightWords)); w.Code != http.StatusOK {
		t.Errorf("D11 ASCII letters are folded: %d %s", w.Code, w.Body)
	}
}

// claimsIn reads a token without judging it.
func claimsIn(t *testing.T, raw string) map[string]any {
	t.Helper()
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		t.Fatalf("not a token: %q", raw)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}
