package postgres_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

const week = 7 * 24 * time.Hour

// ask is an operator's invitation of an address to company 1.
func ask(email string) identity.InviteRequest {
	return identity.InviteRequest{Company: companyID(1), Email: email, Role: "editor", Lifetime: week}
}

// invited makes an invitation that nothing stands in the way of.
func invited(t *testing.T, store *postgres.Store, r identity.InviteRequest) (identity.Invitation, string) {
	t.Helper()
	made, secret, err := store.Invite(testContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

func TestAnInvitationIsMadeOrRefused(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	// The user 1, ada@example.com, is in company 1; 2, bob@example.com, in none.
	// Rows of companies: 1 active, 8 suspended; 9 has none.
	for _, c := range []struct {
		name    string
		setup   func(*database)
		request func(*identity.InviteRequest)
		want    error
	}{
		{"an address that nobody has", nil, func(r *identity.InviteRequest) { r.Email = "new@example.com" }, nil},
		{"an address that a stranger to the company has, alike", nil, func(r *identity.InviteRequest) { r.Email = "bob@example.com" }, nil},
		{"an account", nil, func(r *identity.InviteRequest) { r.User, r.Email = userID(2), "" }, nil},
		{"a company that has people but no row", func(d *database) { d.addMember(userID(1), companyID(9), "user") },
			func(r *identity.InviteRequest) { r.Company = companyID(9) }, nil},
		{"a company that nobody knows", nil, func(r *identity.InviteRequest) { r.Company = companyID(9) }, identity.ErrNotFound},
		{"a suspended company", nil, func(r *identity.InviteRequest) { r.Company = companyID(8) }, identity.ErrCompanySuspended},
		{"somebody whose current company it is", nil, func(r *identity.InviteRequest) { r.Email = "ADA@example.com" }, identity.ErrMember},
		{"a member", func(d *database) { d.addMember(userID(2), companyID(1), "user") },
			func(r *identity.InviteRequest) { r.Email = "bob@example.com" }, identity.ErrMember},
		{"a member's account", func(d *database) { d.addMember(userID(2), companyID(1), "user") },
			func(r *identity.InviteRequest) { r.User, r.Email = userID(2), "" }, identity.ErrMember},
		{"an address that is invited already", func(d *database) { d.invite(companyID(1), "email", "'NEW@example.com'") },
			func(r *identity.InviteRequest) { r.Email = "new@example.com" }, identity.ErrInvited},
		{"an account that is invited already", func(d *database) { d.invite(companyID(1), "user_id", "$3", userID(2).String()) },
			func(r *identity.InviteRequest) { r.User, r.Email = userID(2), "" }, identity.ErrInvited},
		{"D11: an address that differs by more than the case of ASCII letters", func(d *database) { d.invite(companyID(1), "email", "'\u212aim@example.com'") },
			func(r *identity.InviteRequest) { r.Email = "kim@example.com" }, nil},
		{"an address whose invitation was revoked", func(d *database) { d.invite(companyID(1), "email, revoked_at", "'new@example.com', now()") },
			func(r *identity.InviteRequest) { r.Email = "new@example.com" }, nil},
		{"an address whose invitation ran out", func(d *database) {
			d.invite(companyID(1), "email", "'new@example.com'")
			d.exec(`UPDATE company_invitations SET expires_at = now() - interval '1 second'`)
		}, func(r *identity.InviteRequest) { r.Email = "new@example.com" }, nil},
		{"within the bound", func(d *database) { d.invite(companyID(1), "email", "'other@example.com'") },
			func(r *identity.InviteRequest) { r.MostOpen = 2 }, nil},
		{"beyond the bound", func(d *database) { d.invite(companyID(1), "email", "'other@example.com'") },
			func(r *identity.InviteRequest) { r.MostOpen = 1 }, identity.ErrManyInvitations},
		{"what ran out does not count", func(d *database) {
			d.invite(companyID(1), "email", "'other@example.com'")
			d.exec(`UPDATE company_invitations SET expires_at = now() - interval '1 second'`)
		}, func(r *identity.InviteRequest) { r.MostOpen = 1 }, nil},
		{"what is open elsewhere does not count", func(d *database) { d.invite(companyID(2), "email", "'other@example.com'") },
			func(r *identity.InviteRequest) { r.MostOpen = 1 }, nil},
		{"a text that is none", nil, func(r *identity.InviteRequest) { r.Email = "a\x00@example.com" }, postgres.ErrBadText},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`TRUNCATE users, companies, company_invitations CASCADE`)
			db.addCompany(companyID(1), true)
			db.addCompany(companyID(8), false)
			db.addUser(userID(1), "ada@example.com", companyID(1))
			db.addUser(userID(2), "bob@example.com", identity.CompanyID{})
			if c.setup != nil {
				c.setup(db)
			}
			r := ask("new@example.com")
			c.request(&r)
			before := db.one(`SELECT count(*) FROM company_invitations`)
			made, secret, err := store.Invite(testContext(t), r)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("Invite = %v, want %v", err, c.want)
			}
			if err != nil {
				if after := db.one(`SELECT count(*) FROM company_invitations`); after != before || secret != "" {
					t.Errorf("%s invitations, %s before; secret %q", after, before, secret)
				}
				return
			}
			want := identity.Invitation{ID: made.ID, Company: r.Company, User: r.User, Email: r.Email, Role: r.Role,
				CreatedAt: made.CreatedAt, ExpiresAt: made.CreatedAt.Add(week), State: identity.InvitationOpen}
			if made != want || made.ID.IsZero() {
				t.Errorf("made %+v\nwant %+v", made, want)
			}
			hash := "NULL"
			if r.Email != "" {
				sum := sha256.Sum256([]byte(secret))
				hash = `\x` + hex.EncodeToString(sum[:])
			}
			if got := db.one(`SELECT token_hash FROM company_invitations WHERE id = $1`, made.ID.String()); got != hash {
				t.Errorf("of the secret %q was kept %s, want %s", secret, got, hash)
			}
			if r.Email != "" && !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(secret) || r.Email == "" && secret != "" {
				t.Errorf("the secret is %q", secret)
			}
		})
	}
}

func TestAnInvitationIsUsedOnceByWhomItIsFor(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
	db.addUser(userID(2), "bob@example.com", identity.CompanyID{})
	_, secret := invited(t, store, ask("Ada@Example.com"))
	if got := db.one(`SELECT count(*) FROM company_members`); got != "0" {
		t.Error("consent: somebody is a member before they acted")
	}
	join := func(user int) error {
		_, err := store.Join(testContext(t), identity.JoinRequest{User: userID(user), InvitationToken: secret, Admit: admitAll})
		return err
	}
	if err := join(2); !errors.Is(err, identity.ErrJoinRefused) {
		t.Errorf("somebody else: %v", err)
	}
	// Twice at once, as a client that repeats does.
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := join(1); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	// Out again; the secret was used up.
	if _, err := store.RemoveMember(testContext(t), identity.RemoveRequest{Company: companyID(1), User: userID(1)}); err != nil {
		t.Fatal(err)
	}
	if err := join(1); !errors.Is(err, identity.ErrJoinRefused) {
		t.Errorf("the second use: %v", err)
	}
	want := []string{
		`company.denied denied`,
		`company.joined {"how": "invitation", "role": "editor"}`,
		`company.removed {"was_member": true, "was_current": true, "invitations_revoked": 0}`,
		`company.denied denied`,
	}
	if diff := cmp.Diff(want, withoutInvitations(db)); diff != "" {
		t.Error(diff)
	}
	if got := db.one(`SELECT count(*) FROM audit_log WHERE event = 'invitation.accepted' AND actor_user = $1 AND company_id = $2`, userID(1).String(), companyID(1).String()); got != "1" {
		t.Errorf("accepted %s times, want once", got)
	}
}

// withoutInvitations is the log without the records of invitations.
func withoutInvitations(d *database) []string {
	var kept []string
	for _, line := range d.audited() {
		if !strings.HasPrefix(line, "invitation.") {
			kept = append(kept, line)
		}
	}
	return kept
}

func TestTheBoundHoldsUnderInvitationsAtOnce(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	var all sync.WaitGroup
	var made, refused atomic.Int32
	for n := range 12 {
		all.Go(func() {
			r := ask(fmt.Sprintf("n%d@example.com", n))
			r.MostOpen = 5
			_, _, err := store.Invite(testContext(t), r)
			for err != nil && strings.Contains(err.Error(), "another transaction holds a row") {
				_, _, err = store.Invite(testContext(t), r) // a busy machine does not do twelve in a second
			}
			switch {
			case err == nil:
				made.Add(1)
			case errors.Is(err, identity.ErrManyInvitations):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() != 5 || refused.Load() != 7 {
		t.Errorf("%d made and %d refused, want 5 and 7", made.Load(), refused.Load())
	}
}

func TestWhoInvitesIsJudgedUnderTheLock(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	refusedByJudge := errors.New("refused")
	var seen identity.Standing
	r := ask("new@example.com")
	r.By = identity.Inviter{User: userID(1), Admit: func(s identity.Standing) error { seen = s; return refusedByJudge }}
	if _, _, err := store.Invite(testContext(t), r); !errors.Is(err, refusedByJudge) {
		t.Errorf("Invite = %v", err)
	}
	if m, ok := seen.In(companyID(1)); !ok || m.Role != "user" {
		t.Errorf("the judge saw %+v", seen)
	}
	r.By.Admit = admitAll
	made, _ := invited(t, store, r)
	if made.InvitedBy != userID(1) {
		t.Errorf("invited by %v", made.InvitedBy)
	}
	if _, err := store.RevokeInvitation(testContext(t), companyID(1), made.ID, identity.Inviter{User: userID(1), Admit: func(identity.Standing) error { return refusedByJudge }}); !errors.Is(err, refusedByJudge) {
		t.Errorf("RevokeInvitation = %v", err)
	}
	r.By.Admit = nil
	if _, _, err := store.Invite(testContext(t), r); err == nil {
		t.Error("a user without a judge invited somebody")
	}
}

func TestRevokingAnInvitation(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
	made, secret := invited(t, store, ask("ada@example.com"))
	for _, c := range []struct {
		name    string
		company identity.CompanyID
		id      identity.InvitationID
		want    error
	}{
		{"one of another company", companyID(2), made.ID, identity.ErrNotFound},
		{"one that is not there", companyID(1), identity.InvitationID(userID(1)), identity.ErrNotFound},
		{"an open one", companyID(1), made.ID, nil},
		{"the same once more", companyID(1), made.ID, identity.ErrNotFound},
		{"the same, of any company", identity.CompanyID{}, made.ID, identity.ErrNotFound},
	} {
		got, err := store.RevokeInvitation(testContext(t), c.company, c.id, identity.Inviter{})
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err == nil && got.State != identity.InvitationRevoked {
			t.Errorf("%s: %v, %v; want %v", c.name, got.State, err, c.want)
		}
	}
	if _, err := store.Join(testContext(t), identity.JoinRequest{User: userID(1), InvitationToken: secret, Admit: admitAll}); !errors.Is(err, identity.ErrJoinRefused) {
		t.Errorf("with a revoked invitation: %v", err)
	}
	want := []string{
		`invitation.created {"role": "editor", "invitation": "` + made.ID.String() + `"}`,
		`invitation.revoked {"invitation": "` + made.ID.String() + `"}`,
		`company.denied denied`,
	}
	if diff := cmp.Diff(want, db.audited()); diff != "" {
		t.Error(diff)
	}
}

func TestDecliningInvitations(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	for _, c := range []struct {
		name     string
		verified bool
		request  identity.DeclineRequest
		secret   bool // of the invitation of the address to company 1
		want     int
	}{
		{"all that are held without a secret", false, identity.DeclineRequest{}, false, 1},
		{"those of a verified address too", true, identity.DeclineRequest{}, false, 2},
		{"to one company", true, identity.DeclineRequest{Company: companyID(2)}, false, 1},
		{"of the secret", false, identity.DeclineRequest{}, true, 1},
		{"of the secret, to another company", false, identity.DeclineRequest{Company: companyID(2)}, true, 0},
		{"of a secret that is none", false, identity.DeclineRequest{Token: "wrong"}, false, 0},
		{"of somebody else", false, identity.DeclineRequest{User: userID(2)}, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`TRUNCATE users, companies, company_invitations CASCADE`)
			db.addCompany(companyID(1), true)
			db.addCompany(companyID(2), true)
			db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
			db.addUser(userID(2), "bob@example.com", identity.CompanyID{})
			if c.verified {
				db.exec(`UPDATE users SET email_verified_at = now()`)
			}
			_, secret := invited(t, store, ask("ADA@example.com"))
			byAccount := ask("")
			byAccount.Company, byAccount.User = companyID(2), userID(1)
			invited(t, store, byAccount)
			r := c.request
			r.Admit = admitAll
			if r.User.IsZero() {
				r.User = userID(1)
			}
			if c.secret {
				r.Token = secret
			}
			if got, err := store.DeclineInvitations(testContext(t), r); err != nil || got != c.want {
				t.Errorf("declined %d, %v; want %d", got, err, c.want)
			}
			left, err := store.ListInvitations(testContext(t), identity.InvitationFilter{})
			if err != nil || len(left) != 2-c.want {
				t.Errorf("%d are open, %v; want %d", len(left), err, 2-c.want)
			}
		})
	}
}

func TestInvitationsAreListedWithWhatBecameOfThem(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
	invited(t, store, ask("ada@example.com"))
	revoked, _ := invited(t, store, ask("bob@example.com"))
	if _, err := store.RevokeInvitation(testContext(t), identity.CompanyID{}, revoked.ID, identity.Inviter{}); err != nil {
		t.Fatal(err)
	}
	accepted, _ := invited(t, store, ask("cy@example.com"))
	db.exec(`UPDATE company_invitations SET accepted_at = now() WHERE id = $1`, accepted.ID.String())
	expired, _ := invited(t, store, ask("dee@example.com"))
	db.exec(`UPDATE company_invitations SET expires_at = now() WHERE id IN ($1, $2)`, expired.ID.String(), revoked.ID.String())

	states := func(f identity.InvitationFilter) string {
		found, err := store.ListInvitations(testContext(t), f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range found {
			got = append(got, strings.TrimSuffix(i.Email, "@example.com")+" "+string(i.State))
		}
		return strings.Join(got, ", ")
	}
	for _, swept := range []string{"before", "after"} {
		if got, want := states(identity.InvitationFilter{All: true}), "dee expired, cy accepted, bob revoked, ada open"; got != want {
			t.Errorf("%s the end was noted: %s, want %s", swept, got, want)
		}
		if got := states(identity.InvitationFilter{Company: companyID(1)}); got != "ada open" {
			t.Errorf("open: %s", got)
		}
		if got, err := store.SweepInvitations(testContext(t)); err != nil || swept == "before" && got != 1 || swept == "after" && got != 0 {
			t.Errorf("%s: swept %d, %v", swept, got, err)
		}
	}
	if got := states(identity.InvitationFilter{User: userID(1)}); got != "ada open" {
		t.Errorf("of a user by its address: %s", got)
	}
	if got := states(identity.InvitationFilter{Company: companyID(2), All: true}); got != "" {
		t.Errorf("of another company: %s", got)
	}
	if got := db.one(`SELECT details->>'invitation' FROM audit_log WHERE event = 'invitation.expired'`); got != expired.ID.String() {
		t.Errorf("recorded as expired: %s", got)
	}
}

func TestRemovingSomebodyFromACompany(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	for _, c := range []struct {
		name  string
		setup func(*database)
		want  identity.Removal
		err   error
		left  string // current company, role and memberships
	}{
		{"whose current one it is", func(d *database) { d.exec(`UPDATE users SET company_id = $1, role = 'admin'`, companyID(1).String()) },
			identity.Removal{Member: true, Current: true}, nil, "NULL user 0"},
		{"whose current one it is, with a membership of it too", func(d *database) {
			d.exec(`UPDATE users SET company_id = $1, role = 'admin'`, companyID(1).String())
			d.addMember(userID(1), companyID(1), "editor")
		}, identity.Removal{Member: true, Current: true}, nil, "NULL user 0"},
		{"who is a member beside another", func(d *database) {
			d.exec(`UPDATE users SET company_id = $1, role = 'admin'`, companyID(2).String())
			d.addMember(userID(1), companyID(1), "editor")
		}, identity.Removal{Member: true}, nil, "2 admin 0"},
		{"who was only invited", func(d *database) {
			d.exec(`UPDATE users SET company_id = $1, role = 'admin'`, companyID(2).String())
			d.invite(companyID(1), "email", "'ADA@example.com'")
		}, identity.Removal{Invitations: 1}, nil, "2 admin 0"},
		{"who invited somebody, and was invited again", func(d *database) {
			d.addMember(userID(1), companyID(1), "admin")
			d.exec(`INSERT INTO company_invitations (company_id, user_id, expires_at) VALUES ($1, $2, now() + interval '1 day')`, companyID(1).String(), userID(1).String())
			d.exec(`INSERT INTO company_invitations (company_id, email, token_hash, invited_by, expires_at) VALUES ($1, 'x@example.com', sha256('x'), $2, now() + interval '1 day')`,
				companyID(1).String(), userID(1).String())
			d.exec(`INSERT INTO company_invitations (company_id, email, token_hash, expires_at) VALUES ($1, 'y@example.com', sha256('y'), now() + interval '1 day')`, companyID(1).String())
		}, identity.Removal{Member: true, Invitations: 2}, nil, "NULL user 0"},
		{"who has nothing to do with it", func(d *database) {
			d.exec(`UPDATE users SET company_id = $1, role = 'admin'`, companyID(2).String())
			d.addMember(userID(1), companyID(3), "editor")
		}, identity.Removal{}, identity.ErrNotFound, "2 admin 1"},
		{"who is gone", func(d *database) { d.exec(`DELETE FROM users`) }, identity.Removal{}, identity.ErrNotFound, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`TRUNCATE users, companies, company_invitations CASCADE`)
			db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
			c.setup(db)
			before := len(db.audited())
			did, err := store.RemoveMember(testContext(t), identity.RemoveRequest{Company: companyID(1), User: userID(1)})
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || err == nil && did != c.want {
				t.Errorf("did %+v, %v; want %+v, %v", did, err, c.want, c.err)
			}
			if recorded := len(db.audited()) - before; (recorded == 1) != (c.err == nil) || recorded > 1 {
				t.Errorf("%d records", recorded)
			}
			if c.left == "" {
				return
			}
			if got := db.one(`SELECT concat_ws(' ', coalesce(right(company_id::text, 1), 'NULL'), role, (SELECT count(*) FROM company_members)) FROM users`); got != c.left {
				t.Errorf("left %q, want %q", got, c.left)
			}
		})
	}
}
