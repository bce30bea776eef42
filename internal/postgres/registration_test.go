package postgres_test

import (
	"errors"
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func TestRegisteringAUser(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	// What is not the registrant's to say is not taken from it.
	id, err := store.RegisterUser(testContext(t), identity.Account{
		User:         identity.User{ID: userID(9), Email: "Ada@example.com", FullName: "Ada", Role: "admin", Company: companyID(1), Active: false},
		PasswordHash: aHash,
	})
	if err != nil {
		t.Fatal(err)
	}
	got := db.one(`SELECT concat_ws(' ', email, full_name, role, is_active, company_id, hashed_password = $2) FROM users WHERE id = $1`, id.String(), aHash)
	if want := "Ada@example.com Ada user t " + companyID(1).String() + " t"; got != want || id == userID(9) {
		t.Errorf("made %s, want %s", got, want)
	}
	if got := db.one(`SELECT concat_ws(' ', event, actor_user = $1::uuid, subject_user = $1::uuid) FROM audit_log WHERE event = 'user.registered'`, id.String()); got != "user.registered t t" {
		t.Errorf("recorded %s", got)
	}
	if _, err := store.RegisterUser(testContext(t), identity.Account{User: identity.User{Email: "ADA@example.com"}, PasswordHash: aHash}); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("a taken address: %v", err)
	}
	// Another index of an adopted table is no taken address.
	db.exec(`CREATE UNIQUE INDEX one_name ON users (full_name)`)
	if _, err := store.RegisterUser(testContext(t), identity.Account{User: identity.User{Email: "bob@example.com", FullName: "Ada"}, PasswordHash: aHash}); err == nil || errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("a taken name: %v", err)
	}
	if _, err := store.RegisterUser(testContext(t), identity.Account{User: identity.User{Email: "a\x00b@example.com"}, PasswordHash: aHash}); !errors.Is(err, postgres.ErrBadText) {
		t.Errorf("a NUL: %v", err)
	}
	if n := db.one(`SELECT count(*) FROM users`); n != "1" {
		t.Errorf("%s users", n)
	}
}

func TestACompanyByItsName(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.exec(`INSERT INTO companies (id, name) VALUES ($1, 'Home'), ($2, 'Twice'), ($3, 'Twice')`,
		companyID(1).String(), companyID(2).String(), companyID(3).String())
	for _, tt := range []struct {
		name string
		want identity.CompanyID
	}{
		{"Home", companyID(1)}, {"home", identity.CompanyID{}}, {"Twice", identity.CompanyID{}}, {"", identity.CompanyID{}}, {"a\x00", identity.CompanyID{}},
	} {
		got, err := store.CompanyByName(testContext(t), tt.name)
		if got != tt.want || tt.want.IsZero() != errors.Is(err, identity.ErrNotFound) {
			t.Errorf("%q: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}
