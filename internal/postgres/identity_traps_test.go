package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// D16: active means IS TRUE. A row of an adopted table may say nothing, and whoever
// asks (for one user or for many, for a login or to show it) reads that as a no.
func TestD16OnlyTrueIsActive(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	db.migrate()
	store := db.open(postgres.Options{MaxConns: 4})
	ctx := testContext(t)
	for n, want := range map[int]pgtype.Bool{1: {Bool: true, Valid: true}, 2: {Valid: true}, 3: {}} {
		id, email := userID(n), []string{"", "yes@example.com", "no@example.com", "unsaid@example.com"}[n]
		db.addUser(id, email, companyID(1))
		db.exec(`UPDATE users SET is_active = $2 WHERE id = $1`, id.String(), want)

		one, err := store.Standing(ctx, id, identity.SessionID{}, identity.CompanyID{})
		if err != nil || one.Active != want.Bool {
			t.Errorf("%s: the standing of one is %t, %v", email, one.Active, err)
		}
		many, err := store.Standings(ctx, []identity.Question{{User: id}, {User: id, Company: companyID(1)}})
		if err != nil || len(many) != 2 || many[0].Active != want.Bool || many[1].Active != want.Bool {
			t.Errorf("%s: the standings of many are %+v, %v", email, many, err)
		}
		account, err := store.AccountByEmail(ctx, email)
		if err != nil || account.Active != want.Bool {
			t.Errorf("%s: the account is active: %t, %v", email, account.Active, err)
		}
		shown, err := store.FindUser(ctx, email)
		if err != nil || shown.Active != want.Bool {
			t.Errorf("%s: is shown as active: %t, %v", email, shown.Active, err)
		}
		_, err = store.StartSession(ctx, identity.LoginRequest{User: id, PasswordHash: aHash, Lifetime: time.Hour})
		if want.Bool != (err == nil) || err != nil && !errors.Is(err, identity.ErrChanged) {
			t.Errorf("%s: a session: %v", email, err)
		}
	}
}
