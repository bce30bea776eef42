package postgres_test

import (
	"context"
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
	}, "")
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
	if _, err := store.RegisterUser(testContext(t), identity.Account{User: identity.User{Email: "ADA@example.com"}, PasswordHash: aHash}, ""); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("a taken address: %v", err)
	}
	// Another index of an adopted table is no taken address.
	db.exec(`CREATE UNIQUE INDEX one_name ON users (full_name)`)
	if _, err := store.RegisterUser(testContext(t), identity.Account{User: identity.User{Email: "bob@example.com", FullName: "Ada"}, PasswordHash: aHash}, ""); err == nil || errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("a taken name: %v", err)
	}
	if _, err := store.RegisterUser(testContext(t), identity.Account{User: identity.User{Email: "a\x00b@example.com"}, PasswordHash: aHash}, ""); !errors.Is(err, postgres.ErrBadText) {
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

// registrationOf claims rights that are not the registrant's to say.
func registrationOf(email string) identity.Account {
	return identity.Account{User: identity.User{Email: email, Role: "owner", Company: companyID(9)}, PasswordHash: aHash}
}

func TestRegisteringByInvitation(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	_, secret := invited(t, store, ask("Kim@example.com"))
	for _, wrong := range []struct{ email, secret string }{
		{"kim@example.com", "some words"}, {"other@example.com", secret}, {"\u212aim@example.com", secret},
	} {
		if _, err := store.RegisterUser(testContext(t), registrationOf(wrong.email), wrong.secret); !errors.Is(err, identity.ErrJoinRefused) {
			t.Errorf("%s with %.10s: %v", wrong.email, wrong.secret, err)
		}
	}
	id, err := store.RegisterUser(testContext(t), registrationOf("kim@example.com"), secret)
	if err != nil {
		t.Fatal(err)
	}
	got := db.one(`SELECT concat_ws(' ', u.role, u.company_id, m.role, u.email_verified_at, i.accepted_by = u.id)
		FROM users u JOIN company_members m ON m.user_id = u.id AND m.company_id = u.company_id, company_invitations i WHERE u.id = $1`, id.String())
	if want := "editor " + companyID(1).String() + " editor t"; got != want {
		t.Errorf("made %s, want %s", got, want)
	}
	// Whoever it was for is gone: nobody comes in their place.
	db.exec(`DELETE FROM users`)
	if _, err := store.RegisterUser(testContext(t), registrationOf("kim@example.com"), secret); !errors.Is(err, identity.ErrJoinRefused) {
		t.Errorf("the second time: %v", err)
	}
	if n := db.one(`SELECT count(*) FROM users`); n != "0" {
		t.Errorf("%s users", n)
	}
}

// A user that could not be made leaves the invitation as it was.
func TestARegistrationThatFailsLeavesTheInvitationOpen(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	_, secret := invited(t, store, ask("kim@example.com"))
	const open = `SELECT count(*) FROM company_invitations WHERE accepted_at IS NULL`
	db.exec(`ALTER TABLE audit_log ADD CHECK (event <> 'company.joined')`)
	if _, err := store.RegisterUser(testContext(t), registrationOf("kim@example.com"), secret); err == nil || db.one(open) != "1" || db.one(`SELECT count(*) FROM users`) != "0" {
		t.Errorf("what cannot be recorded happened: %v", err)
	}
	failed := errors.New("somebody else's fault")
	err := store.RedeemInvitation(testContext(t), secret, "kim@example.com", func(_ context.Context, company identity.CompanyID, role string) (identity.UserID, error) {
		if company != companyID(1) || role != "editor" {
			t.Errorf("told %v, %q", company, role)
		}
		return identity.UserID{}, failed
	})
	if !errors.Is(err, failed) || db.one(open) != "1" {
		t.Errorf("elsewhere: %v", err)
	}
}

// While a user is made elsewhere, nobody else comes in by the same secret, and who
// tries waits for a second at most.
func TestAnInvitationIsHeldWhileTheUserIsMadeElsewhere(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	_, secret := invited(t, store, ask("kim@example.com"))
	none := func(context.Context, identity.CompanyID, string) (identity.UserID, error) {
		t.Error("two were let in")
		return identity.UserID{}, nil
	}
	err := store.RedeemInvitation(testContext(t), secret, "KIM@example.com", func(ctx context.Context, _ identity.CompanyID, _ string) (identity.UserID, error) {
		if err := store.RedeemInvitation(ctx, secret, "kim@example.com", none); err == nil || errors.Is(err, identity.ErrJoinRefused) {
			t.Errorf("meanwhile: %v, want a row that is held", err)
		}
		return userID(7), nil // who has no row among ours
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := db.one(`SELECT concat_ws(' ', accepted_by, accepted_at IS NOT NULL) FROM company_invitations`); got != userID(7).String()+" t" {
		t.Errorf("accepted %s", got)
	}
	if err := store.RedeemInvitation(testContext(t), secret, "kim@example.com", none); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("afterwards: %v", err)
	}
	if got := db.one(`SELECT string_agg(concat_ws(' ', event, subject_user, company_id), ', ' ORDER BY at) FROM audit_log WHERE subject_user IS NOT NULL`); got !=
		"invitation.accepted "+userID(7).String()+" "+companyID(1).String()+", user.registered "+userID(7).String()+" "+companyID(1).String() {
		t.Errorf("recorded %s", got)
	}
}
