package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

func TestStanding(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers) // adopted: every column may be NULL
	db.migrate()
	store := db.open(postgres.Options{})
	// The same statement must serve behind a proxy that pools transactions.
	unprepared := db.open(postgres.Options{URL: withParameter(db.url, "default_query_exec_mode=exec")})

	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	dusk := at("9999-12-31T00:00:00Z")
	member := func(company int, role string) identity.Membership {
		return identity.Membership{Company: companyID(company), Role: role}
	}
	db.exec(`INSERT INTO companies (id, name, is_active) VALUES ($1, 'suspended', false), ($2, 'active', true)`,
		companyID(8).String(), companyID(1).String())

	for _, c := range []struct {
		name    string
		setup   []string // $1 is the user, $2 the session
		session bool
		about   identity.CompanyID
		want    identity.Standing
	}{
		{name: "a user that does not exist", want: identity.Standing{}},
		{name: "a user that does not exist, with a session", session: true, want: identity.Standing{}},
		{
			name:  "a row of nothing but NULL is inactive and in no company",
			setup: []string{`INSERT INTO users (id) VALUES ($1)`},
			want:  identity.Standing{Exists: true},
		},
		{
			name:  "an active user without a company",
			setup: []string{`INSERT INTO users (id, email, is_active) VALUES ($1, 'u1@example.com', true)`},
			want:  identity.Standing{Exists: true, Active: true, Email: "u1@example.com"},
		},
		{
			name:  "a disabled user",
			setup: []string{`INSERT INTO users (id, email, is_active) VALUES ($1, 'u2@example.com', false)`},
			want:  identity.Standing{Exists: true, Email: "u2@example.com"},
		},
		{
			name: "the current company is first, with the role of the users row",
			setup: []string{
				`INSERT INTO users (id, is_active, company_id, role) VALUES ($1, true, 'cccccccc-0000-4000-8000-000000000003', 'admin')`,
				`INSERT INTO company_members (user_id, company_id, role) VALUES ($1, 'cccccccc-0000-4000-8000-000000000003', 'old'),
					($1, 'cccccccc-0000-4000-8000-000000000002', 'editor'), ($1, 'cccccccc-0000-4000-8000-000000000001', 'user')`,
			},
			want: identity.Standing{Exists: true, Active: true,
				Memberships: []identity.Membership{member(3, "admin"), member(1, "user"), member(2, "editor")}},
		},
		{
			name:  "a company that the companies table does not know is not suspended",
			setup: []string{`INSERT INTO users (id, is_active, company_id) VALUES ($1, true, 'cccccccc-0000-4000-8000-000000000007')`},
			want:  identity.Standing{Exists: true, Active: true, Memberships: []identity.Membership{member(7, "")}},
		},
		{
			name: "a suspended company says so, current or not",
			setup: []string{
				`INSERT INTO users (id, is_active, company_id, role) VALUES ($1, true, 'cccccccc-0000-4000-8000-000000000008', 'user')`,
				`INSERT INTO company_members (user_id, company_id) VALUES ($1, 'cccccccc-0000-4000-8000-000000000001')`,
			},
			about: companyID(8),
			want: identity.Standing{Exists: true, Active: true, Suspended: true, Memberships: []identity.Membership{
				{Company: companyID(8), Role: "user", Suspended: true}, member(1, "user")}},
		},
		{
			name:  "a company that was asked about is suspended, whoever belongs to it",
			setup: []string{`INSERT INTO users (id, is_active) VALUES ($1, true)`},
			about: companyID(8),
			want:  identity.Standing{Exists: true, Active: true, Suspended: true},
		},
		{
			name:  "the nil UUID is no company",
			setup: []string{`INSERT INTO users (id, is_active, company_id) VALUES ($1, true, '00000000-0000-0000-0000-000000000000')`},
			want:  identity.Standing{Exists: true, Active: true},
		},
		{
			name:  "tokens_valid_after keeps its microseconds",
			setup: []string{`INSERT INTO users (id, is_active, tokens_valid_after) VALUES ($1, true, '2026-01-02 03:04:05.678901+00')`},
			want:  identity.Standing{Exists: true, Active: true, TokensValidAfter: at("2026-01-02T03:04:05.678901Z")},
		},
		{
			name:  "tokens_valid_after of infinity is later than every token",
			setup: []string{`INSERT INTO users (id, is_active, tokens_valid_after) VALUES ($1, true, 'infinity')`},
			want:  identity.Standing{Exists: true, Active: true, TokensValidAfter: dusk},
		},
		{
			name:  "tokens_valid_after of -infinity is set, unlike NULL",
			setup: []string{`INSERT INTO users (id, is_active, tokens_valid_after) VALUES ($1, true, '-infinity')`},
			want:  identity.Standing{Exists: true, Active: true, TokensValidAfter: time.Time{}.Add(time.Microsecond)},
		},
		{
			name:  "tokens_valid_after beyond the calendar stays on its side of it",
			setup: []string{`INSERT INTO users (id, is_active, tokens_valid_after) VALUES ($1, true, '294000-01-01 00:00+00')`},
			want:  identity.Standing{Exists: true, Active: true, TokensValidAfter: dusk},
		},
		{
			name:    "a session that does not exist",
			setup:   []string{`INSERT INTO users (id, is_active) VALUES ($1, true)`},
			session: true,
			want:    identity.Standing{Exists: true, Active: true},
		},
		{
			name: "a live session",
			setup: []string{`INSERT INTO users (id, is_active) VALUES ($1, true)`,
				`INSERT INTO sessions (id, user_id, auth_time, valid_from, not_after) VALUES ($2, $1, '2026-01-01 00:00+00', '2026-01-02 03:04:05.678901+00', '2026-02-01 00:00+00')`},
			session: true,
			want: identity.Standing{Exists: true, Active: true, Session: identity.Session{Exists: true,
				AuthTime: at("2026-01-01T00:00:00Z"), ValidFrom: at("2026-01-02T03:04:05.678901Z"), NotAfter: at("2026-02-01T00:00:00Z")}},
		},
		{
			name: "a session that nobody asked for is not told",
			setup: []string{`INSERT INTO users (id, is_active) VALUES ($1, true)`,
				`INSERT INTO sessions (id, user_id, auth_time, not_after) VALUES ($2, $1, now(), now())`},
			want: identity.Standing{Exists: true, Active: true},
		},
		{
			name: "an ended session, whenever its end is",
			setup: []string{`INSERT INTO users (id, is_active) VALUES ($1, true)`,
				`INSERT INTO sessions (id, user_id, auth_time, valid_from, not_after, ended_at) VALUES ($2, $1, '2026-01-01 00:00+00', '-infinity', 'infinity', 'infinity')`},
			session: true,
			want: identity.Standing{Exists: true, Active: true, Session: identity.Session{Exists: true, Ended: true,
				AuthTime: at("2026-01-01T00:00:00Z"), ValidFrom: time.Time{}.Add(time.Microsecond), NotAfter: dusk}},
		},
		{
			name: "the session of another user does not exist",
			setup: []string{`INSERT INTO users (id, is_active) VALUES ($1, true), ('00000000-0000-4000-8000-999999999999', true) ON CONFLICT DO NOTHING`,
				`INSERT INTO sessions (id, user_id, auth_time, not_after) SELECT $2::uuid, '00000000-0000-4000-8000-999999999999', now(), now() WHERE $1::uuid IS NOT NULL`},
			session: true,
			want:    identity.Standing{Exists: true, Active: true},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`DELETE FROM users`)
			user, session := userID(1), sessionID(1)
			for _, sql := range c.setup {
				args := []any{user.String()}
				if strings.Contains(sql, "$2") {
					args = append(args, session.String())
				}
				db.exec(sql, args...)
			}
			asked := identity.SessionID{}
			if c.session {
				asked = session
			}
			for how, s := range map[string]*postgres.Store{"prepared": store, "unprepared": unprepared} {
				got, err := s.Standing(testContext(t), user, asked, c.about)
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s standing (-want +got):\n%s", how, diff)
				}
			}
		})
	}
}

func TestPlainSQLThatMovesAUserTakesTheOldCompanyAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sql  string
		want []identity.Membership
	}{
		{"to another company", `UPDATE users SET company_id = 'cccccccc-0000-4000-8000-000000000003'`,
			[]identity.Membership{{Company: companyID(3), Role: "user"}, {Company: companyID(2), Role: "editor"}}},
		{"to none", `UPDATE users SET company_id = NULL`, []identity.Membership{{Company: companyID(2), Role: "editor"}}},
		{"not at all", `UPDATE users SET company_id = company_id, role = 'admin'`,
			[]identity.Membership{{Company: companyID(1), Role: "admin"}, {Company: companyID(2), Role: "editor"}}},
		{"while triggers are off for a restore", `SET session_replication_role = replica; UPDATE users SET company_id = NULL`,
			[]identity.Membership{{Company: companyID(2), Role: "editor"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store, db := newStore(t)
			db.addUser(userID(1), "ada@example.com", companyID(1))
			db.addMember(userID(1), companyID(1), "user")
			db.addMember(userID(1), companyID(2), "editor")
			db.exec(c.sql)
			got, err := store.Standing(testContext(t), userID(1), identity.SessionID{}, identity.CompanyID{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Memberships); diff != "" {
				t.Errorf("memberships (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlainSQLByARoleThatOnlyMayUpdateUsersStillMovesAUser(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	db.addMember(userID(1), companyID(1), "user")
	db.exec(`CREATE ROLE mover_of_users`)
	db.exec(`GRANT SELECT, UPDATE ON users TO mover_of_users`)
	db.exec(`SET ROLE mover_of_users`)
	db.exec(`UPDATE users SET company_id = NULL`)
	db.exec(`RESET ROLE`)
	db.exec(`DROP OWNED BY mover_of_users`)
	db.exec(`DROP ROLE mover_of_users`)
	if got := db.one(`SELECT count(*) FROM company_members`); got != "0" {
		t.Errorf("%s memberships left, want 0", got)
	}
}
