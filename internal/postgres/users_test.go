package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func account(email string, company identity.CompanyID) identity.Account {
	return identity.Account{
		User:         identity.User{Email: email, FullName: "Ada Lovelace", Company: company, Active: true},
		PasswordHash: "an-old-hash",
	}
}

func TestCreateUserStoresTheAccountAndRefusesTheAddressTwice(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ctx := testContext(t)
	db.addCompany(companyID(1), true)
	made, err := store.CreateUser(ctx, account("Ada@Example.com", companyID(1)))
	if err != nil {
		t.Fatal(err)
	}
	want := identity.User{ID: made.ID, Email: "Ada@Example.com", FullName: "Ada Lovelace", Role: "user",
		Company: companyID(1), Active: true, CreatedAt: made.CreatedAt}
	if made != want || made.ID.IsZero() || made.CreatedAt.IsZero() {
		t.Errorf("made %+v, want %+v", made, want)
	}
	if _, err := store.CreateUser(ctx, account("aDA@example.COM", companyID(1))); !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("the same address: %v", err)
	}
	if _, err := store.CreateUser(ctx, account("bob@example.com", companyID(2))); !errors.Is(err, identity.ErrUnknownCompany) {
		t.Errorf("unknown company: %v", err)
	}
	if _, err := store.CreateUser(ctx, account("nul\x00@example.com", companyID(1))); !errors.Is(err, postgres.ErrBadText) {
		t.Errorf("a NUL: %v", err)
	}
	taken := account("carl@example.com", identity.CompanyID{})
	taken.ID = made.ID
	if _, err := store.CreateUser(ctx, taken); err == nil || errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("an id that is taken: %v, want an error that does not blame the email", err)
	}
}

func TestCreateUserRacedMakesOne(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() {
			_, errs[i] = store.CreateUser(testContext(t), account("ada@example.com", identity.CompanyID{}))
		})
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, identity.ErrEmailTaken):
			t.Errorf("err = %v", err)
		}
	}
	if made != 1 || db.one(`SELECT count(*) FROM users`) != "1" {
		t.Errorf("%d users made, want 1", made)
	}
}

func TestAccountByEmailFoldsASCIIOnly(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "Kim@example.com", identity.CompanyID{})
	db.addUser(userID(2), "\u212aim@example.com", identity.CompanyID{})
	db.addUser(userID(3), "ida@example.com", identity.CompanyID{})
	db.addUser(userID(4), "\u0130da@example.com", identity.CompanyID{})
	for name, c := range map[string]struct {
		email string
		want  identity.UserID // zero: not found
	}{
		"letters in any case":            {"kIM@EXAMPLE.com", userID(1)},
		"the Kelvin sign is not a k":     {"\u212aim@example.com", userID(2)},
		"the dotted I is not an i":       {"\u0130da@example.com", userID(4)},
		"an i is not the dotted I":       {"IDA@example.com", userID(3)},
		"unknown":                        {"nobody@example.com", identity.UserID{}},
		"empty":                          {"", identity.UserID{}},
		"a NUL finds nobody":             {"kim@example.com\x00", identity.UserID{}},
		"invalid UTF-8 finds nobody":     {"kim\xff@example.com", identity.UserID{}},
		"a text far longer than any row": {strings.Repeat("k", 1<<20), identity.UserID{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := store.AccountByEmail(testContext(t), c.email)
			if c.want.IsZero() {
				if !errors.Is(err, identity.ErrNotFound) {
					t.Fatalf("AccountByEmail = %+v, %v, want ErrNotFound", got, err)
				}
				return
			}
			if err != nil || got.ID != c.want {
				t.Errorf("AccountByEmail = %+v, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestAccountByEmailUsesTheIndex(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.exec(`INSERT INTO users (email) SELECT 'user' || n || '@example.com' FROM generate_series(1, 5000) n`)
	db.exec(`ANALYZE users`)
	if plan := db.plan(postgres.AccountByEmailSQL, "user7@example.com"); !strings.Contains(plan, "users_email_fold_key") {
		t.Errorf("plan:\n%s", plan)
	}
}

func TestAccountOfAnAdoptedRowMayBeAllNull(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	db.exec(`INSERT INTO users (id) VALUES ($1)`, userID(1).String())
	db.migrate()
	store := db.open(postgres.Options{})
	got, err := store.FindUser(testContext(t), userID(1).String())
	if want := (identity.User{ID: userID(1)}); err != nil || got != want {
		t.Errorf("FindUser = %+v, %v, want %+v", got, err, want)
	}
	users, next, err := store.ListUsers(testContext(t), 10, "")
	if err != nil || len(users) != 1 || users[0] != got || next != "" {
		t.Errorf("ListUsers = %+v, %q, %v", users, next, err)
	}
}

func TestReplacePasswordHashIsACompareAndSwap(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ctx := testContext(t)
	made, err := store.CreateUser(ctx, account("ada@example.com", identity.CompanyID{}))
	if err != nil {
		t.Fatal(err)
	}
	before := db.one(`SELECT updated_at FROM users`)
	if ok, err := store.ReplacePasswordHash(ctx, made.ID, "another-hash", "a-new-hash"); ok || err != nil {
		t.Errorf("with another old hash: %v, %v", ok, err)
	}
	if ok, err := store.ReplacePasswordHash(ctx, made.ID, "an-old-hash", "a-new-hash"); !ok || err != nil {
		t.Errorf("with the old hash: %v, %v", ok, err)
	}
	got, err := store.AccountByEmail(ctx, "ada@example.com")
	if err != nil || got.PasswordHash != "a-new-hash" {
		t.Errorf("account = %+v, %v", got, err)
	}
	if after := db.one(`SELECT concat(updated_at, password_changed_at) FROM users`); after != before {
		t.Errorf("an upgrade counted as a change of the password: %s, before %s", after, before)
	}
	if ended, err := store.SetPassword(ctx, made.ID, "a-set-hash"); err != nil || ended != 0 {
		t.Fatalf("%d sessions, %v", ended, err)
	}
	if got := db.one(`SELECT concat_ws(' ', hashed_password, password_changed_at = updated_at, tokens_valid_after >= updated_at) FROM users`); got != "a-set-hash t t" {
		t.Errorf("after SetPassword: %s", got)
	}
	if _, err := store.SetPassword(ctx, userID(9), "a-set-hash"); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown user: %v", err)
	}
}

func TestSetActiveSaysWhetherItWasAChange(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	db.exec(`INSERT INTO users (id, is_active) VALUES ($1, NULL)`, userID(1).String())
	db.migrate()
	store := db.open(postgres.Options{})
	for _, step := range []struct {
		active, want bool
	}{{false, true}, {false, false}, {true, true}, {true, false}} {
		if got, err := store.SetActive(testContext(t), userID(1), step.active); got != step.want || err != nil {
			t.Errorf("SetActive(%v) = %v, %v, want %v", step.active, got, err, step.want)
		}
	}
	if _, err := store.SetActive(testContext(t), userID(2), true); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown user: %v", err)
	}
}

func TestListUsersGivesEachUserOnceWhateverItsDate(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	dates := []string{"NULL", "'-infinity'", "'2024-05-01'", "'2024-05-01 00:00:00.000001'", "'2024-05-01'", "'infinity'", "now()"}
	for i, date := range dates {
		db.exec(`INSERT INTO users (id, created_at) VALUES ($1, `+date+`)`, userID(i).String())
	}
	db.migrate()
	store := db.open(postgres.Options{})
	var got []identity.UserID
	cursor := ""
	for range dates {
		users, next, err := store.ListUsers(testContext(t), 2, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range users {
			got = append(got, u.ID)
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	want := []identity.UserID{userID(0), userID(1), userID(2), userID(4), userID(3), userID(6), userID(5)}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v\nwant   %v", got, want)
	}
	for _, bad := range []string{"x", "!!!!", "MCAwIHg", strings.Repeat("A", 1000)} {
		if _, _, err := store.ListUsers(testContext(t), 2, bad); !errors.Is(err, postgres.ErrBadCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func TestCompaniesAreListedWithTheirUsers(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	ctx := testContext(t)
	for _, name := range []string{"", strings.Repeat("é", 201)} {
		if _, err := store.CreateCompany(ctx, name); !errors.Is(err, postgres.ErrBadCompanyName) {
			t.Errorf("a name of %d bytes: %v", len(name), err)
		}
	}
	one, err := store.CreateCompany(ctx, strings.Repeat("é", 200))
	if err != nil {
		t.Fatal(err)
	}
	two, err := store.CreateCompany(ctx, "Acme")
	if err != nil {
		t.Fatal(err)
	}
	same, err := store.CreateCompany(ctx, "Acme")
	if err != nil || same.ID == two.ID {
		t.Fatalf("a second company of that name: %+v, %v", same, err)
	}
	db.exec(`UPDATE companies SET is_active = false WHERE id = $1`, one.ID.String())
	db.addUser(userID(1), "ada@example.com", two.ID)
	db.addUser(userID(2), "bob@example.com", one.ID)
	db.addMember(userID(2), two.ID, "admin")
	db.addMember(userID(1), two.ID, "user") // counts once
	listed, err := store.ListCompanies(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[identity.CompanyID]string{}
	for _, c := range listed {
		got[c.ID] = fmt.Sprint(c.Active, c.Users)
	}
	want := map[identity.CompanyID]string{one.ID: "false 1", two.ID: "true 2", same.ID: "true 0"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}
