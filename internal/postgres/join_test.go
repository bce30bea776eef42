package postgres_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
)

const invitationToken = "test-secret-of-an-invitation"

func admitAll(identity.Standing) error { return nil }

// invite makes an open invitation to company; more overrides its columns.
func (d *database) invite(company identity.CompanyID, columns, values string, args ...any) {
	d.t.Helper()
	hash := sha256.Sum256([]byte(invitationToken))
	all := append([]any{company.String(), hash[:]}, args...)
	if columns != "" {
		columns, values = ", "+columns, ", "+values
	}
	d.exec(`INSERT INTO company_invitations (company_id, token_hash, role, expires_at`+columns+`)
		VALUES ($1, $2, 'editor', now() + interval '7 days'`+values+`)`, all...)
}

func TestJoin(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	none := identity.CompanyID{}
	// The user is 1, ada@example.com; company 1 is its current one if it has any.
	// Rows of companies: 1, 2 and 3 active, 8 suspended; 9 has none.
	for _, c := range []struct {
		name    string
		current identity.CompanyID
		setup   func(*database)
		request identity.JoinRequest
		want    string // "company role changed", or the error
	}{
		{"no company named, none held, no default", none, nil, identity.JoinRequest{}, identity.ErrNoCompany.Error()},
		{"none named: the current one is confirmed", companyID(1), nil, identity.JoinRequest{Default: companyID(2)}, "1 user false"},
		{"the current one named: confirmed", companyID(1), nil, identity.JoinRequest{Want: companyID(1)}, "1 user false"},
		{"the current one is confirmed also if it is suspended", companyID(8), nil, identity.JoinRequest{Want: companyID(8)}, "8 user false"},

		{"D3: a newcomer gets the default company", none, nil, identity.JoinRequest{Default: companyID(2)}, "2 user true"},
		{"D3: a newcomer may name the default company", none, nil, identity.JoinRequest{Want: companyID(2), Default: companyID(2)}, "2 user true"},
		{"D3: the default company needs no row", none, nil, identity.JoinRequest{Default: companyID(9)}, "9 user true"},
		{"D3: not with a company", companyID(1), nil, identity.JoinRequest{Want: companyID(2), Default: companyID(2)}, identity.ErrJoinRefused.Error()},
		{"D3: not with a membership", none, func(d *database) { d.addMember(userID(1), companyID(3), "user") },
			identity.JoinRequest{Default: companyID(2)}, identity.ErrJoinRefused.Error()},
		{"D3: not if it is suspended", none, nil, identity.JoinRequest{Default: companyID(8)}, identity.ErrJoinRefused.Error()},
		{"a membership of the default company counts as one", none, func(d *database) { d.addMember(userID(1), companyID(2), "admin") },
			identity.JoinRequest{Default: companyID(2)}, "2 admin true"},

		{"D13: a foreign company is refused", companyID(1), nil, identity.JoinRequest{Want: companyID(2)}, identity.ErrJoinRefused.Error()},
		{"D13: an unknown company is refused alike", companyID(1), nil, identity.JoinRequest{Want: companyID(9)}, identity.ErrJoinRefused.Error()},
		{"any: a known company is joined", companyID(1), nil, identity.JoinRequest{Want: companyID(2), AnyCompany: true}, "2 user true"},
		{"any: an unknown company is not found", companyID(1), nil, identity.JoinRequest{Want: companyID(9), AnyCompany: true}, identity.ErrUnknownCompany.Error()},
		{"any: a suspended company is refused", companyID(1), nil, identity.JoinRequest{Want: companyID(8), AnyCompany: true}, identity.ErrJoinRefused.Error()},
		{"any: the default company needs no row", companyID(1), nil, identity.JoinRequest{Want: companyID(9), Default: companyID(9), AnyCompany: true}, "9 user true"},
		{"any: a membership keeps its role", companyID(1), func(d *database) { d.addMember(userID(1), companyID(2), "admin") },
			identity.JoinRequest{Want: companyID(2), AnyCompany: true}, "2 admin true"},

		{"a member moves, with its role there", companyID(1), func(d *database) { d.addMember(userID(1), companyID(2), "admin") },
			identity.JoinRequest{Want: companyID(2)}, "2 admin true"},
		{"a member moves to a company without a row", companyID(1), func(d *database) { d.addMember(userID(1), companyID(9), "user") },
			identity.JoinRequest{Want: companyID(9)}, "9 user true"},
		{"a member does not move to a suspended company", companyID(1), func(d *database) { d.addMember(userID(1), companyID(8), "user") },
			identity.JoinRequest{Want: companyID(8)}, identity.ErrJoinRefused.Error()},
		{"another user's membership does not count", companyID(1), func(d *database) { d.addMember(userID(2), companyID(2), "admin") },
			identity.JoinRequest{Want: companyID(2)}, identity.ErrJoinRefused.Error()},

		{"an invitation of the account", companyID(1), func(d *database) { d.invite(companyID(2), "user_id", "$3", userID(1).String()) },
			identity.JoinRequest{Want: companyID(2)}, "2 editor true"},
		{"an invitation of the account is not acted on unasked", companyID(1), func(d *database) { d.invite(companyID(2), "user_id", "$3", userID(1).String()) },
			identity.JoinRequest{}, "1 user false"},
		{"an invitation of another account", companyID(1), func(d *database) { d.invite(companyID(2), "user_id", "$3", userID(2).String()) },
			identity.JoinRequest{Want: companyID(2)}, identity.ErrJoinRefused.Error()},
		{"an invitation of another account, with its token", companyID(1), func(d *database) { d.invite(companyID(2), "user_id", "$3", userID(2).String()) },
			identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, identity.ErrJoinRefused.Error()},
		{"an invitation to another company", companyID(1), func(d *database) { d.invite(companyID(3), "user_id", "$3", userID(1).String()) },
			identity.JoinRequest{Want: companyID(2)}, identity.ErrJoinRefused.Error()},
		{"D1: an address and its token, the company named", companyID(1), func(d *database) { d.invite(companyID(2), "email", "'ADA@example.com'") },
			identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, "2 editor true"},
		{"D1: a token alone names its company", companyID(1), func(d *database) { d.invite(companyID(2), "email", "'ada@example.com'") },
			identity.JoinRequest{InvitationToken: invitationToken}, "2 editor true"},
		{"D1: a token goes before the default", none, func(d *database) { d.invite(companyID(2), "email", "'ada@example.com'") },
			identity.JoinRequest{InvitationToken: invitationToken, Default: companyID(3)}, "2 editor true"},
		{"D1: an address alone does not suffice", companyID(1), func(d *database) { d.invite(companyID(2), "email", "'ada@example.com'") },
			identity.JoinRequest{Want: companyID(2)}, identity.ErrJoinRefused.Error()},
		{"D1: a verified address does", companyID(1), func(d *database) {
			d.invite(companyID(2), "email", "'ada@example.com'")
			d.exec(`UPDATE users SET email_verified_at = now() WHERE id = $1`, userID(1).String())
		}, identity.JoinRequest{Want: companyID(2)}, "2 editor true"},
		{"D1: a token with another address", companyID(1), func(d *database) { d.invite(companyID(2), "email", "'bob@example.com'") },
			identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, identity.ErrJoinRefused.Error()},
		{"D11: the address is folded in ASCII only", companyID(1), func(d *database) {
			d.invite(companyID(2), "email", "'\u212aim@example.com'")
			d.exec(`UPDATE users SET email = 'kim@example.com' WHERE id = $1`, userID(1).String())
		}, identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, identity.ErrJoinRefused.Error()},
		{"another token", companyID(1), func(d *database) { d.invite(companyID(2), "email", "'ada@example.com'") },
			identity.JoinRequest{Want: companyID(2), InvitationToken: "another\x00\xff"}, identity.ErrJoinRefused.Error()},
		{"a wrong token does not fall back to the default", none, nil,
			identity.JoinRequest{InvitationToken: "wrong", Default: companyID(2)}, identity.ErrJoinRefused.Error()},
		{"a token that does not name the company asked for", companyID(1), func(d *database) { d.invite(companyID(3), "email", "'ada@example.com'") },
			identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, identity.ErrJoinRefused.Error()},
		{"an expired invitation", companyID(1), func(d *database) {
			d.invite(companyID(2), "email", "'ada@example.com'")
			d.exec(`UPDATE company_invitations SET expires_at = now() - interval '1 second'`)
		}, identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, identity.ErrJoinRefused.Error()},
		{"a revoked invitation", companyID(1), func(d *database) {
			d.invite(companyID(2), "email, revoked_at", "'ada@example.com', now()")
		}, identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, identity.ErrJoinRefused.Error()},
		{"an accepted invitation", companyID(1), func(d *database) {
			d.invite(companyID(2), "email, accepted_at", "'ada@example.com', now()")
		}, identity.JoinRequest{Want: companyID(2), InvitationToken: invitationToken}, identity.ErrJoinRefused.Error()},
		{"an accepted invitation that is repeated is confirmed", companyID(2), func(d *database) {
			d.invite(companyID(2), "email, accepted_at", "'ada@example.com', now()")
		}, identity.JoinRequest{InvitationToken: invitationToken}, "2 user false"},
		{"an invitation to a suspended company", companyID(1), func(d *database) { d.invite(companyID(8), "user_id", "$3", userID(1).String()) },
			identity.JoinRequest{Want: companyID(8)}, identity.ErrJoinRefused.Error()},
		{"an invitation does not change a member's role", companyID(1), func(d *database) {
			d.addMember(userID(1), companyID(2), "admin")
			d.invite(companyID(2), "user_id", "$3", userID(1).String())
		}, identity.JoinRequest{Want: companyID(2)}, "2 admin true"},
		{"a user that was deleted and admitted all the same", none, func(d *database) { d.exec(`DELETE FROM users WHERE id = $1`, userID(1).String()) },
			identity.JoinRequest{Default: companyID(2)}, identity.ErrNotFound.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`TRUNCATE users, companies CASCADE`)
			for n := 1; n <= 3; n++ {
				db.addCompany(companyID(n), true)
			}
			db.addCompany(companyID(8), false)
			db.addUser(userID(1), "ada@example.com", c.current)
			db.addUser(userID(2), "eve@example.com", companyID(3))
			if c.setup != nil {
				c.setup(db)
			}
			const everything = `SELECT concat((SELECT jsonb_agg(u ORDER BY id) FROM users u), (SELECT jsonb_agg(m ORDER BY user_id, company_id) FROM company_members m),
				(SELECT jsonb_agg(i) FROM company_invitations i))`
			before := db.one(everything)
			c.request.User, c.request.Admit = userID(1), admitAll
			result, err := store.Join(testContext(t), c.request)
			got := fmt.Sprint(int(result.User.Company[15]), " ", result.User.Role, " ", result.Changed)
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("Join = %s, want %s", got, c.want)
			}
			if !result.Changed {
				if after := db.one(everything); after != before {
					t.Errorf("nothing should have changed:\nbefore %s\nafter  %s", before, after)
				}
				return
			}
			row := db.one(`SELECT concat_ws(' ', company_id, role, updated_at = now()) FROM users WHERE id = $1`, userID(1).String())
			if want := result.User.Company.String() + " " + result.User.Role + " f"; row != want {
				t.Errorf("the row is %s, want %s", row, want)
			}
			standing, err := store.Standing(testContext(t), userID(1), identity.SessionID{}, identity.CompanyID{})
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := standing.In(result.User.Company); !ok || m != standing.Memberships[0] {
				t.Errorf("memberships = %+v", standing.Memberships)
			}
			if _, ok := standing.In(c.current); !ok && !c.current.IsZero() {
				t.Errorf("the old company was lost: %+v", standing.Memberships)
			}
			if open := db.one(`SELECT count(*) FROM company_invitations WHERE company_id = $1 AND accepted_at IS NULL`, result.User.Company.String()); open != "0" {
				t.Errorf("%s invitations to it are still open", open)
			}
		})
	}
}

func TestJoinIsAdmittedByTheStandingUnderTheLock(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	db.exec(`INSERT INTO sessions (id, user_id, auth_time, not_after) VALUES ($1, $2, now(), now() + interval '1 day')`,
		sessionID(1).String(), userID(1).String())
	want, err := store.Standing(testContext(t), userID(1), sessionID(1), identity.CompanyID{})
	if err != nil || !want.Session.Exists {
		t.Fatal(want, err)
	}
	var seen identity.Standing
	refusal := errors.New("the judge says no")
	request := identity.JoinRequest{User: userID(1), Session: sessionID(1), Want: companyID(1),
		Admit: func(s identity.Standing) error { seen = s; return refusal }}
	if _, err := store.Join(testContext(t), request); err != refusal { //nolint:errorlint // as it is, not wrapped
		t.Errorf("err = %v, want the judge's own", err)
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the judge saw (-want +got):\n%s", diff)
	}
	request.Admit = admitAll
	result, err := store.Join(testContext(t), request)
	if err != nil || result.Session != want.Session || result.Changed {
		t.Errorf("result = %+v, %v", result, err)
	}
	request.User, request.Admit = userID(9), func(s identity.Standing) error { seen = s; return refusal }
	if _, err := store.Join(testContext(t), request); err != refusal || seen.Exists { //nolint:errorlint // as it is
		t.Errorf("a missing user: %v, judged as %+v", err, seen)
	}
	request.Admit = nil
	if _, err := store.Join(testContext(t), request); err == nil {
		t.Errorf("a join without a judge was carried out")
	}
}

// A judge who admits while a disabling waits for the same row decides on what
// is true: the disabling comes after the join, never in the middle of it.
func TestJoinHoldsTheRowWhileItIsJudged(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	other := connect(t, db.url)
	other.exec(`SET lock_timeout = '50ms'`)
	var blocked error
	_, err := store.Join(testContext(t), identity.JoinRequest{User: userID(1), Admit: func(identity.Standing) error {
		_, blocked = other.conn.Exec(testContext(t), `UPDATE users SET is_active = false`)
		return nil
	}})
	if err != nil || blocked == nil {
		t.Errorf("join: %v; an update meanwhile: %v, want it to wait", err, blocked)
	}
}

func TestJoinsOfOneUserRacedEndInOneOfTheCompanies(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	for n := 2; n <= 5; n++ {
		db.addMember(userID(1), companyID(n), fmt.Sprint("role", n))
	}
	var all sync.WaitGroup
	for n := 2; n <= 5; n++ {
		all.Go(func() {
			result, err := store.Join(testContext(t), identity.JoinRequest{User: userID(1), Want: companyID(n), Admit: admitAll})
			if err != nil || result.User.Company != companyID(n) || result.User.Role != fmt.Sprint("role", n) {
				t.Errorf("to %d: %+v, %v", n, result, err)
			}
		})
	}
	all.Wait()
	standing, err := store.Standing(testContext(t), userID(1), identity.SessionID{}, identity.CompanyID{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range standing.Memberships {
		want := fmt.Sprint("role", m.Company[15])
		if m.Company == companyID(1) {
			want = "user"
		}
		if m.Role != want {
			t.Errorf("%s as %s, want %s", m.Company, m.Role, want)
		}
	}
	if len(standing.Memberships) != 5 {
		t.Errorf("memberships = %+v, want five", standing.Memberships)
	}
}

func TestJoinsOfOneNewcomerRacedTakeTheDefaultOnce(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
	var all sync.WaitGroup
	var mu sync.Mutex
	changed := 0
	for range 4 {
		all.Go(func() {
			result, err := store.Join(testContext(t), identity.JoinRequest{User: userID(1), Default: companyID(2), Admit: admitAll})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if result.Changed {
				changed++
			}
		})
	}
	all.Wait()
	if changed != 1 {
		t.Errorf("%d joins changed the user, want 1", changed)
	}
}

// Two users pass one invitation: each has its address while it asks.
func TestAnInvitationAdmitsExactlyOne(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
	db.addUser(userID(2), "eve@example.com", identity.CompanyID{})
	db.exec(`DROP INDEX users_email_fold_key`) // as nothing else lets two hold one address
	db.exec(`UPDATE users SET email = 'ada@example.com'`)
	db.invite(companyID(2), "email", "'ada@example.com'")
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			_, errs[i] = store.Join(testContext(t), identity.JoinRequest{
				User: userID(1 + i%2), Want: companyID(2), InvitationToken: invitationToken, Admit: admitAll})
		})
	}
	all.Wait()
	refused := 0
	for _, err := range errs {
		switch {
		case errors.Is(err, identity.ErrJoinRefused):
			refused++
		case err != nil:
			t.Error(err)
		}
	}
	if in := db.one(`SELECT count(*) FROM users WHERE company_id IS NOT NULL`); in != "1" || refused != 4 {
		t.Errorf("%s users came in and %d joins were refused, want 1 and 4", in, refused)
	}
}
