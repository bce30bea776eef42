package postgres_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// withLogins is a user 1 with a login, an older one, one that was ended, one past
// its end and one from before the user's mark.
func withLogins(t *testing.T) (*postgres.Store, *database) {
	t.Helper()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
	db.addUser(userID(2), "bob@example.com", identity.CompanyID{})
	for n, more := range []string{
		"NULL, now() - interval '1 minute', now(), now() + interval '1 day'",
		"NULL, now() - interval '1 hour', now(), now() + interval '1 day'",
		"now(), now() - interval '2 hours', now(), now() + interval '1 day'",
		"NULL, now() - interval '3 hours', now(), now() - interval '1 hour'",
		"NULL, now() - interval '4 hours', now() - interval '2 days', now() + interval '1 day'",
	} {
		db.exec(`INSERT INTO sessions (id, user_id, auth_time, ip, user_agent, ended_at, created_at, valid_from, not_after)
			VALUES ($1, $2, now(), '192.0.2.7', 'curl', `+more+`)`, sessionID(n+1).String(), userID(1).String())
	}
	db.exec(`UPDATE users SET tokens_valid_after = now() - interval '1 day'`)
	return store, db
}

// numbers are the sessions by the last digit of their ids.
func numbers(found []identity.SessionRecord) string {
	var text strings.Builder
	for _, s := range found {
		id := s.ID.String()
		text.WriteString(id[len(id)-1:])
		if s.Live {
			text.WriteString("+")
		}
	}
	return text.String()
}

func TestTheLoginsOfAUser(t *testing.T) {
	t.Parallel()
	store, _ := withLogins(t)
	for _, c := range []struct {
		name string
		user identity.UserID
		all  bool
		want string
	}{
		{"those that are live", userID(1), false, "1+2+"},
		{"all", userID(1), true, "1+2+345"},
		{"of somebody else", userID(2), true, ""},
		{"of nobody", userID(9), true, ""},
	} {
		found, err := store.ListSessions(testContext(t), c.user, c.all)
		if err != nil || numbers(found) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, numbers(found), err, c.want)
		}
		for _, s := range found {
			if s.Client != (identity.Client{Address: netip.MustParseAddr("192.0.2.7"), UserAgent: "curl"}) || s.EndedAt.IsZero() != (s.ID != sessionID(3)) {
				t.Errorf("%s: %+v", c.name, s)
			}
			standing, err := store.Standing(testContext(t), c.user, s.ID, identity.CompanyID{})
			if err != nil || standing.Revoked(identity.Credential{HasSession: true}, time.Now()) == s.Live {
				t.Errorf("%s: session %v is listed live: %v, and judged otherwise", c.name, s.ID, s.Live)
			}
		}
	}
}

func TestAnOperatorEndsLogins(t *testing.T) {
	t.Parallel()
	store, db := withLogins(t)
	for _, c := range []struct {
		name    string
		user    identity.UserID
		session identity.SessionID
		want    bool
		err     error
	}{
		{"a live one", userID(1), sessionID(1), true, nil},
		{"the same again", userID(1), sessionID(1), false, nil},
		{"one of another user", userID(2), sessionID(2), false, identity.ErrNotFound},
		{"of a user who is gone", userID(9), sessionID(2), false, identity.ErrNotFound},
	} {
		ended, err := store.EndSession(testContext(t), c.user, c.session)
		if ended != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, ended, err, c.want, c.err)
		}
	}
	if got := db.one(`SELECT end_reason FROM sessions WHERE id = $1`, sessionID(1).String()); got != "admin" {
		t.Errorf("ended by %s", got)
	}
	for _, want := range []int{2, 0} { // the one from before the mark is over in another way
		if ended, err := store.EndAllSessions(testContext(t), userID(1)); err != nil || ended != want {
			t.Errorf("%d ended, %v; want %d", ended, err, want)
		}
	}
	if found, err := store.ListSessions(testContext(t), userID(1), false); err != nil || len(found) != 0 {
		t.Errorf("left: %s, %v", numbers(found), err)
	}
	want := []string{
		`session.ended {"reason": "admin", "sessions": 1}`,
		`session.ended {"reason": "admin", "sessions": 2}`,
	}
	if diff := cmp.Diff(want, db.audited()); diff != "" {
		t.Error(diff)
	}
}

func TestTokensWithoutASessionAreRevokedAlone(t *testing.T) {
	t.Parallel()
	store, db := withLogins(t)
	if err := store.RevokeSessionless(testContext(t), userID(1)); err != nil {
		t.Fatal(err)
	}
	standing, err := store.Standing(testContext(t), userID(1), sessionID(1), identity.CompanyID{})
	if err != nil || standing.Revoked(identity.Credential{HasSession: true}, time.Now()) ||
		!standing.Revoked(identity.Credential{IssuedAt: time.Now().Add(-time.Minute)}, time.Now()) {
		t.Errorf("standing %+v, %v", standing, err)
	}
	if got := db.audited(); len(got) != 1 || !strings.HasPrefix(got[0], "token.revoked ") {
		t.Errorf("recorded %q", got)
	}
	if err := store.RevokeSessionless(testContext(t), userID(9)); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
}

// Every act that changes what somebody may do leaves its record, and one that
// cannot be recorded does not happen.
func TestWhatIsRecordedAndWhatIsNotDoneUnrecorded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		act  func(t *testing.T, s *postgres.Store) error
		want []string
		// proof is true while nothing was done.
		proof string
	}{
		{"a login", func(t *testing.T, s *postgres.Store) error {
			_, err := s.StartSession(testContext(t), identity.LoginRequest{User: userID(1), PasswordHash: aHash, Lifetime: time.Hour})
			return err
		}, []string{"login.success"}, `SELECT last_login IS NULL FROM users WHERE id = '` + userID(1).String() + `'`},
		{"a logout", func(t *testing.T, s *postgres.Store) error {
			_, err := s.EndSessions(testContext(t), identity.LogoutRequest{User: userID(1), Session: sessionID(1), Admit: admitAll})
			return err
		}, []string{`session.ended {"reason": "logout", "sessions": 1}`}, `SELECT ended_at IS NULL FROM sessions WHERE id = '` + sessionID(1).String() + `'`},
		{"a logout everywhere", func(t *testing.T, s *postgres.Store) error {
			_, err := s.EndSessions(testContext(t), identity.LogoutRequest{User: userID(1), Session: sessionID(1), Scope: identity.LogoutGlobal, Admit: admitAll})
			return err
		}, []string{`session.ended {"reason": "logout_all", "sessions": 3}`}, `SELECT count(*) = 4 FROM sessions WHERE ended_at IS NULL`},
		{"a change of the password", func(t *testing.T, s *postgres.Store) error {
			_, _, err := s.ChangePassword(testContext(t), identity.PasswordChange{User: userID(1), Session: sessionID(1), OldHash: aHash, NewHash: "new", Lifetime: time.Hour, Admit: admitAll})
			return err
		}, []string{"password.changed", `session.ended {"reason": "password_change", "sessions": 2}`}, `SELECT count(*) = 2 FROM users WHERE hashed_password <> 'new'`},
		{"an upgrade of its hash", func(t *testing.T, s *postgres.Store) error {
			_, err := s.ReplacePasswordHash(testContext(t), userID(1), aHash, "new")
			return err
		}, []string{"password.upgraded"}, `SELECT count(*) = 2 FROM users WHERE hashed_password <> 'new'`},
		{"an upgrade that comes too late", func(t *testing.T, s *postgres.Store) error {
			_, err := s.ReplacePasswordHash(testContext(t), userID(1), "other", "new")
			return err
		}, nil, ""},
		{"a password set by an operator", func(t *testing.T, s *postgres.Store) error {
			_, err := s.SetPassword(testContext(t), userID(1), "new")
			return err
		}, []string{`password.reset {"sessions": 3}`}, `SELECT count(*) = 2 FROM users WHERE hashed_password <> 'new'`},
		{"a user disabled", func(t *testing.T, s *postgres.Store) error {
			_, err := s.SetActive(testContext(t), userID(1), false)
			return err
		}, []string{"user.disabled"}, `SELECT bool_and(is_active) FROM users`},
		{"a user enabled who was", func(t *testing.T, s *postgres.Store) error {
			_, err := s.SetActive(testContext(t), userID(1), true)
			return err
		}, nil, ""},
		{"a user enabled who was not", func(t *testing.T, s *postgres.Store) error {
			if _, err := s.SetActive(testContext(t), userID(1), false); err != nil {
				return err
			}
			_, err := s.SetActive(testContext(t), userID(1), true)
			return err
		}, []string{"user.disabled", "user.enabled"}, ""},
		{"a user unlocked", func(t *testing.T, s *postgres.Store) error {
			wrong := identity.LoginAttempt{Source: identity.ThrottleKey{1}, AccountSource: identity.ThrottleKey{2}, Account: identity.ThrottleKey{3}, Email: "ada@example.com"}
			if _, err := s.SettleLogin(testContext(t), wrong, identity.LoginTurn{}, identity.LoginFailed, userID(1)); err != nil {
				return err
			}
			_, err := s.UnlockUser(testContext(t), userID(1))
			return err
		}, []string{"user.unlocked"}, `SELECT count(*) > 0 FROM login_throttle WHERE user_id = '` + userID(1).String() + `'`},
		{"a user registered", func(t *testing.T, s *postgres.Store) error {
			_, err := s.RegisterUser(testContext(t), identity.Account{User: identity.User{Email: "new@example.com"}, PasswordHash: aHash}, "")
			return err
		}, []string{"user.registered"}, `SELECT count(*) = 2 FROM users`},
		{"a user revoked", func(t *testing.T, s *postgres.Store) error {
			_, err := s.RevokeUser(testContext(t), userID(1))
			return err
		}, []string{`user.revoked {"sessions": 3}`}, `SELECT count(*) = 4 FROM sessions WHERE ended_at IS NULL`},
		{"a user made", func(t *testing.T, s *postgres.Store) error {
			_, err := s.CreateUser(testContext(t), identity.Account{User: identity.User{Email: "new@example.com"}})
			return err
		}, []string{"user.created"}, `SELECT count(*) = 2 FROM users`},
		{"a company made", func(t *testing.T, s *postgres.Store) error {
			_, err := s.CreateCompany(testContext(t), "New")
			return err
		}, []string{"company.created"}, `SELECT count(*) = 0 FROM companies WHERE name = 'New'`},
		{"a company suspended", func(t *testing.T, s *postgres.Store) error {
			_, err := s.SetSuspended(testContext(t), companyID(1), true)
			return err
		}, []string{"company.suspended"}, `SELECT bool_and(is_active) FROM companies`},
		{"a company resumed", func(t *testing.T, s *postgres.Store) error {
			if _, err := s.SetSuspended(testContext(t), companyID(1), true); err != nil {
				return err
			}
			_, err := s.SetSuspended(testContext(t), companyID(1), false)
			return err
		}, []string{"company.suspended", "company.resumed"}, ""},
		{"a company joined", func(t *testing.T, s *postgres.Store) error {
			_, err := s.Join(testContext(t), identity.JoinRequest{User: userID(1), Default: companyID(1), Admit: admitAll})
			return err
		}, []string{`company.joined {"how": "default", "role": "user"}`}, `SELECT count(*) = 0 FROM company_members`},
		{"an invitation", func(t *testing.T, s *postgres.Store) error {
			_, _, err := s.Invite(testContext(t), identity.InviteRequest{Company: companyID(1), Email: "new@example.com", Role: "user", Lifetime: week})
			return err
		}, []string{"invitation.created …"}, `SELECT count(*) = 0 FROM company_invitations`},
		{"an invitation taken back", func(t *testing.T, s *postgres.Store) error {
			made, _, err := s.Invite(testContext(t), identity.InviteRequest{Company: companyID(1), Email: "new@example.com", Role: "user", Lifetime: week})
			if err != nil {
				return err
			}
			_, err = s.RevokeInvitation(testContext(t), companyID(1), made.ID, identity.Inviter{})
			return err
		}, []string{"invitation.created …", "invitation.revoked …"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store, db := withLogins(t)
			db.addCompany(companyID(1), true)
			if err := c.act(t, store); err != nil {
				t.Fatal(err)
			}
			got := db.audited()
			for i, want := range c.want {
				if begin, cut := strings.CutSuffix(want, "…"); cut && i < len(got) && strings.HasPrefix(got[i], begin) {
					got[i] = want
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if c.proof == "" {
				return
			}
			if db.one(c.proof) != "false" {
				t.Fatal("what proves that nothing was done holds although it was")
			}

			store, db = withLogins(t)
			db.addCompany(companyID(1), true)
			db.exec(`ALTER TABLE audit_log ADD CHECK (event = '') NOT VALID`)
			if err := c.act(t, store); err == nil || !strings.Contains(err.Error(), "audit_log") {
				t.Errorf("with a log that takes nothing: %v", err)
			}
			if db.one(c.proof) != "true" {
				t.Error("it was done without a record")
			}
		})
	}
}
