package postgres_test

import (
	"errors"
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
)

func TestAnotherAddressIsNotVerified(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.exec(`ALTER TABLE users ALTER COLUMN email DROP NOT NULL`) // as in an adopted table
	db.addUser(userID(1), "kim@example.com", identity.CompanyID{})
	const old, other = "2026-01-02 03:04:05+00", "2026-02-03 04:05:06+00"
	for _, c := range []struct{ name, sql, want string }{
		{"another address", `UPDATE users SET email = 'other@example.com'`, "NULL"},
		{"no address", `UPDATE users SET email = NULL`, "NULL"},
		{"D11: an address that only other rules take for the same", `UPDATE users SET email = E'\u212Aim@example.com'`, "NULL"},
		{"the same in other letters", `UPDATE users SET email = 'KIM@Example.com'`, old},
		{"the same", `UPDATE users SET email = email, full_name = 'Kim'`, old},
		{"a login", `UPDATE users SET last_login = now()`, old},
		{"another, verified by the same statement", `UPDATE users SET email = 'other@example.com', email_verified_at = '` + other + `'`, other},
		{"another, with what was there before", `UPDATE users SET email = 'other@example.com', email_verified_at = email_verified_at`, "NULL"},
		{"verified anew", `UPDATE users SET email_verified_at = '` + other + `'`, other},
		{"another, by an upsert", `INSERT INTO users (id, email) SELECT id, email FROM users ON CONFLICT (id) DO UPDATE SET email = 'other@example.com'`, "NULL"},
		{"another, while ordinary triggers are off", `SET LOCAL session_replication_role = replica; UPDATE users SET email = 'other@example.com'`, "NULL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`UPDATE users SET email = 'kim@example.com', email_verified_at = '` + old + `'`)
			db.exec(`BEGIN; ` + c.sql)
			defer db.exec(`ROLLBACK`)
			if got := db.one(`SELECT to_char(email_verified_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS+00') FROM users`); got != c.want {
				t.Errorf("verified %s, want %s", got, c.want)
			}
		})
	}
}

// D1: an address alone opens no invitation unless it is verified, and another address
// by plain SQL is not.
func TestAnotherAddressOpensNoInvitation(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	db.addUser(userID(1), "kim@example.com", companyID(2))
	db.exec(`UPDATE users SET email_verified_at = now()`)
	invited(t, store, ask("boss@example.com"))
	join := func() error {
		_, err := store.Join(testContext(t), identity.JoinRequest{User: userID(1), Want: companyID(1), Admit: func(identity.Standing) error { return nil }})
		return err
	}
	db.exec(`UPDATE users SET email = 'boss@example.com'`)
	if err := join(); !errors.Is(err, identity.ErrJoinRefused) {
		t.Errorf("by an address that nobody verified: %v", err)
	}
	db.exec(`UPDATE users SET email_verified_at = now()`)
	if err := join(); err != nil {
		t.Errorf("once it is verified: %v", err)
	}
}
