package login_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
	"github.com/atenex/gatehouse/login"
)

// onPostgres is a stage on a real, migrated database.
func onPostgres(t *testing.T, changes ...set) (*stage, *postgres.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url := postgrestest.New(t)
	if _, err := postgres.Migrate(ctx, url, postgres.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	db, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	changes = append(changes, func(o *login.Options) {
		o.Accounts, o.Sessions, o.Directory, o.Sweeper, o.Companies, o.Database = db, db, db, db, db, db
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

func TestAnsweringWithoutPostgres(t *testing.T) {
	g, db := onPostgres(t)
	db.Close()
	for path, r := range map[string]*http.Request{"login": credentials(adaEmail, rightWords), "ensure-company": post(ensurePath, "")} {
		r.Header.Set("Authorization", "Bearer "+g.tokenOf(nativeGrant()))
		if w := g.send(r); w.Code != http.StatusServiceUnavailable || w.Body.String() != unavailable || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: got %d %s, Retry-After %q", path, w.Code, w.Body, w.Header().Get("Retry-After"))
		}
	}
}
