package postgres_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// aHash is the hash of every user that addUser made.
const aHash = "a-hash"

// logIn begins a session of a user that addUser made.
func logIn(ctx context.Context, store *postgres.Store, user identity.UserID) error {
	_, err := store.StartSession(ctx, identity.LoginRequest{User: user, PasswordHash: aHash, Lifetime: time.Hour})
	return err
}

// people is a store on which logins are made and judged.
type people struct {
	t     *testing.T
	store *postgres.Store
	*database
}

func newPeople(t *testing.T) people {
	t.Helper()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	return people{t, store, db}
}

func (p people) logIn() identity.SessionID {
	p.t.Helper()
	login, err := p.store.StartSession(testContext(p.t), identity.LoginRequest{User: userID(1), PasswordHash: aHash, Lifetime: time.Hour})
	if err != nil {
		p.t.Fatal(err)
	}
	return login.ID
}

// stands reports whether a token of that session is accepted now.
func (p people) stands(session identity.SessionID) bool {
	p.t.Helper()
	now, err := p.store.Standing(testContext(p.t), userID(1), session, identity.CompanyID{})
	if err != nil {
		p.t.Fatal(err)
	}
	return !now.Revoked(identity.Credential{User: userID(1), Session: session, HasSession: true}, time.Now())
}

// legacyStands reports the same of a token without a session.
func (p people) legacyStands(issued time.Time) bool {
	p.t.Helper()
	now, err := p.store.Standing(testContext(p.t), userID(1), identity.SessionID{}, identity.CompanyID{})
	if err != nil {
		p.t.Fatal(err)
	}
	return !now.Revoked(identity.Credential{User: userID(1), IssuedAt: issued}, time.Now())
}

func (p people) logOut(session identity.SessionID, scope identity.LogoutScope) int {
	p.t.Helper()
	n, err := p.store.EndSessions(testContext(p.t), identity.LogoutRequest{User: userID(1), Session: session, Scope: scope, Admit: admitAll})
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p people) changePassword(session identity.SessionID) identity.SessionID {
	p.t.Helper()
	login, _, err := p.store.ChangePassword(testContext(p.t), identity.PasswordChange{
		User: userID(1), Session: session, OldHash: aHash, NewHash: aHash, Lifetime: time.Hour, Admit: admitAll,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return login.ID
}

func TestASessionIsWrittenInFull(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	const rest = `SELECT (to_jsonb(u) - 'last_login')::text FROM users u`
	before := p.one(rest)
	got, err := p.store.StartSession(testContext(t), identity.LoginRequest{
		User: userID(1), PasswordHash: aHash, Lifetime: 90 * time.Minute,
		Client: identity.Client{Address: netip.MustParseAddr("::ffff:192.0.2.7"), UserAgent: "caf\u00e9\x00\n" + strings.Repeat("x", 400)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.User.ID != userID(1) || got.User.Company != companyID(1) || got.ID.IsZero() ||
		got.NotAfter.Sub(got.AuthTime) != 90*time.Minute || time.Since(got.User.LastLogin).Abs() > time.Minute {
		t.Errorf("got %+v", got)
	}
	if after := p.one(rest); after != before {
		t.Errorf("more than last_login was changed: before %s\nafter  %s", before, after)
	}
	const row = `SELECT concat_ws('|', id, user_id, company_id, ip, user_agent, auth_time = valid_from, auth_time = created_at, ended_at IS NULL) FROM sessions`
	want := strings.Join([]string{got.ID.String(), userID(1).String(), companyID(1).String(), "192.0.2.7/32",
		"caf???" + strings.Repeat("x", 294), "t", "t", "t"}, "|")
	if got := strings.Replace(p.one(row), "192.0.2.7|", "192.0.2.7/32|", 1); got != want {
		t.Errorf("the row is  %s\nwant        %s", got, want)
	}
}

func TestASessionIsBegunOnlyForWhatWasVerified(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sql  string
		hash string
		want error
	}{
		{"the same account begins one", `SELECT`, aHash, nil},
		{"another hash meanwhile", `UPDATE users SET hashed_password = 'another'`, aHash, identity.ErrChanged},
		{"no hash any more", `UPDATE users SET hashed_password = NULL`, aHash, identity.ErrChanged},
		{"an empty hash proves nothing", `UPDATE users SET hashed_password = ''`, "", identity.ErrChanged},
		{"disabled meanwhile", `UPDATE users SET is_active = false`, aHash, identity.ErrChanged},
		{"deleted meanwhile", `DELETE FROM users`, aHash, identity.ErrChanged},
		{"a hash that no text can be", `SELECT`, "a\x00hash", postgres.ErrBadText},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPeople(t)
			p.exec(c.sql)
			_, err := p.store.StartSession(testContext(t), identity.LoginRequest{User: userID(1), PasswordHash: c.hash, Lifetime: time.Hour})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("err = %v, want %v", err, c.want)
			}
			wantRows := "0"
			if c.want == nil {
				wantRows = "1"
			}
			if got := p.one(`SELECT count(*) FROM sessions`); got != wantRows {
				t.Errorf("%s sessions, want %s", got, wantRows)
			}
		})
	}
}

// What each act ends: of three sessions and a token without one, the first
// session (or the token) asks.
func TestWhatEachActEnds(t *testing.T) {
	t.Parallel()
	const live, over = true, false
	for _, c := range []struct {
		name    string
		act     func(p people, asking identity.SessionID) int
		own     bool
		other   bool
		legacy  bool
		reasons string
		ended   int
	}{
		{"logout ends the session that asks", func(p people, s identity.SessionID) int { return p.logOut(s, identity.LogoutLocal) }, over, live, live, "logout", 1},
		{"logout of the others keeps the one that asks", func(p people, s identity.SessionID) int { return p.logOut(s, identity.LogoutOthers) }, live, over, over, "logout_all", 2},
		{"logout of all ends everything", func(p people, s identity.SessionID) int { return p.logOut(s, identity.LogoutGlobal) }, over, over, over, "logout_all", 3},
		{"a new password ends the others", func(p people, s identity.SessionID) int { p.changePassword(s); return 2 }, live, over, over, "password_change", 2},
		{"an operator's revocation ends everything", func(p people, _ identity.SessionID) int {
			n, err := p.store.RevokeUser(testContext(p.t), userID(1))
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}, over, over, over, "admin", 3},
		{"an operator's new password ends everything", func(p people, _ identity.SessionID) int {
			n, err := p.store.SetPassword(testContext(p.t), userID(1), aHash)
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}, over, over, over, "password_reset", 3},
		{"a token without a session that logs out ends those without one", func(p people, _ identity.SessionID) int { return p.logOut(identity.SessionID{}, identity.LogoutLocal) }, live, live, over, "", 0},
		{"a token without a session that logs the others out ends with them", func(p people, _ identity.SessionID) int { return p.logOut(identity.SessionID{}, identity.LogoutOthers) }, over, over, over, "logout_all", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPeople(t)
			p.addUser(userID(2), "bob@example.com", companyID(1))
			if err := logIn(testContext(t), p.store, userID(2)); err != nil {
				t.Fatal(err)
			}
			own, second, third := p.logIn(), p.logIn(), p.logIn()
			issued := time.Now()
			if n := c.act(p, own); n != c.ended {
				t.Errorf("%d sessions ended, want %d", n, c.ended)
			}
			got := []bool{p.stands(own), p.stands(second), p.stands(third), p.legacyStands(issued)}
			if want := []bool{c.own, c.other, c.other, c.legacy}; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
				t.Errorf("the asking, second and third session and the token without one stand: %v, want %v", got, want)
			}
			if got := p.one(`SELECT coalesce(string_agg(DISTINCT end_reason, ','), '') FROM sessions`); got != c.reasons {
				t.Errorf("reasons %q, want %q", got, c.reasons)
			}
			if got := p.one(`SELECT concat_ws(' ', u.tokens_valid_after IS NULL, s.ended_at IS NULL) FROM users u JOIN sessions s ON s.user_id = u.id WHERE u.id = $1`,
				userID(2).String()); got != "t t" {
				t.Errorf("somebody else was touched: %s", got)
			}
		})
	}
}

// A session that is begun right before a revocation dies, one right after it
// lives, whichever way it is revoked.
func TestRevocationIsExactWithinASecond(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	acts := []func(keep identity.SessionID){
		func(keep identity.SessionID) { p.logOut(keep, identity.LogoutOthers) },
		func(identity.SessionID) { p.logOut(identity.SessionID{}, identity.LogoutGlobal) },
		func(keep identity.SessionID) { p.changePassword(keep) },
		func(identity.SessionID) {
			p.exec(`UPDATE users SET tokens_valid_after = now() WHERE id = $1`, userID(1).String())
		},
	}
	survives := []bool{true, false, true, false}
	for i := range 52 {
		keep, before := p.logIn(), p.logIn()
		acts[i%4](keep)
		after := p.logIn()
		if p.stands(before) {
			t.Fatalf("round %d: a session from before the revocation stands", i)
		}
		if !p.stands(after) {
			t.Fatalf("round %d: a session from after the revocation is revoked", i)
		}
		if got := p.stands(keep); got != survives[i%4] {
			t.Fatalf("round %d: the session that asked stands: %v", i, got)
		}
	}
}

func TestTheMarkNeverGoesBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		ahead string
		want  bool // a login stands at once
	}{
		{"a clock that was put back a moment ago keeps nobody out", "1 second", true},
		{"what an operator set far ahead is meant", "1 hour", false},
		{"a mark of infinity is meant", "infinity", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPeople(t)
			old := p.logIn()
			set := `UPDATE users SET tokens_valid_after = now() + interval '` + c.ahead + `'`
			if c.ahead == "infinity" {
				set = `UPDATE users SET tokens_valid_after = 'infinity'`
			}
			p.exec(set)
			mark := p.one(`SELECT tokens_valid_after FROM users`)
			if _, err := p.store.RevokeUser(testContext(t), userID(1)); err != nil {
				t.Fatal(err)
			}
			if got := p.one(`SELECT tokens_valid_after FROM users`); got != mark {
				t.Errorf("the mark went from %s to %s", mark, got)
			}
			if p.stands(old) {
				t.Error("an old session stands")
			}
			if got := p.stands(p.logIn()); got != c.want {
				t.Errorf("a new session stands: %v, want %v", got, c.want)
			}
		})
	}
}

func TestATokenWithoutASessionRevivesNoneThatAMarkHadEnded(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	ended := p.logIn()
	p.exec(`UPDATE users SET tokens_valid_after = now()`)
	live := p.logIn()
	p.logOut(identity.SessionID{}, identity.LogoutLocal)
	if p.stands(ended) || !p.stands(live) {
		t.Errorf("the session before the mark stands: %v, that after it: %v; want false, true", p.stands(ended), p.stands(live))
	}
}

func TestANewPasswordGivesATokenWithoutASessionOne(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	old := p.logIn()
	login, ended, err := p.store.ChangePassword(testContext(t), identity.PasswordChange{
		User: userID(1), OldHash: aHash, NewHash: "a-new-hash", Lifetime: time.Hour, Admit: admitAll,
	})
	if err != nil || ended != 1 || login.ID.IsZero() || login.NotAfter.Sub(login.AuthTime) != time.Hour {
		t.Fatalf("got %+v, %d ended, %v", login, ended, err)
	}
	if !p.stands(login.ID) || p.stands(old) {
		t.Errorf("the new session stands: %v, the old one: %v", p.stands(login.ID), p.stands(old))
	}
	if got := p.one(`SELECT concat_ws(' ', hashed_password, password_changed_at IS NOT NULL) FROM users`); got != "a-new-hash t" {
		t.Errorf("the row says %s", got)
	}
}

func TestAPasswordIsChangedOnlyFromTheOneThatWasVerified(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	own, other := p.logIn(), p.logIn()
	_, _, err := p.store.ChangePassword(testContext(t), identity.PasswordChange{
		User: userID(1), Session: own, OldHash: "another-hash", NewHash: "a-new-hash", Admit: admitAll,
	})
	if !errors.Is(err, identity.ErrChanged) {
		t.Errorf("err = %v, want ErrChanged", err)
	}
	if !p.stands(own) || !p.stands(other) || p.one(`SELECT hashed_password FROM users`) != aHash {
		t.Error("something was changed all the same")
	}
}

func TestWhoMayEndSessionsIsJudgedUnderTheLock(t *testing.T) {
	t.Parallel()
	refusal := errors.New("refused")
	for name, act := range map[string]func(ctx context.Context, p people, user identity.UserID, admit func(identity.Standing) error) error{
		"logout": func(ctx context.Context, p people, user identity.UserID, admit func(identity.Standing) error) error {
			_, err := p.store.EndSessions(ctx, identity.LogoutRequest{User: user, Scope: identity.LogoutGlobal, Admit: admit})
			return err
		},
		"password": func(ctx context.Context, p people, user identity.UserID, admit func(identity.Standing) error) error {
			_, _, err := p.store.ChangePassword(ctx, identity.PasswordChange{User: user, OldHash: aHash, NewHash: "x", Lifetime: time.Hour, Admit: admit})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeople(t)
			session := p.logIn()
			if err := act(testContext(t), p, userID(1), func(identity.Standing) error { return refusal }); !errors.Is(err, refusal) {
				t.Errorf("err = %v, want the judge's own", err)
			}
			if err := act(testContext(t), p, userID(1), nil); err == nil {
				t.Error("went on without a judge")
			}
			if err := act(testContext(t), p, userID(9), admitAll); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("unknown user: %v", err)
			}
			if !p.stands(session) {
				t.Error("the session was ended all the same")
			}

			// The judge sees what others committed while it waited for the lock.
			p.exec(`BEGIN`)
			p.exec(`UPDATE users SET is_active = false`)
			ended := make(chan error, 1)
			go func() {
				ended <- act(testContext(t), p, userID(1), func(now identity.Standing) error {
					if now.Active {
						return errors.New("an older state was judged")
					}
					return refusal
				})
			}()
			waitForLock(t, p.database)
			p.exec(`COMMIT`)
			if err := <-ended; !errors.Is(err, refusal) {
				t.Error(err)
			}
		})
	}
}

// waitForLock waits until somebody waits for a lock in this database.
func waitForLock(t *testing.T, db *database) {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), db.url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	eventually(t, "somebody waits for the lock", func() bool {
		var waits bool
		err := conn.QueryRow(testContext(t), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && waits
	})
}

// A login that waited for a revocation came after it.
func TestALoginThatWaitedForARevocationSurvivesIt(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(`BEGIN`)
	p.exec(`SELECT FROM users FOR UPDATE`)
	begun := make(chan identity.SessionID, 1)
	go func() {
		login, err := p.store.StartSession(testContext(t), identity.LoginRequest{User: userID(1), PasswordHash: aHash, Lifetime: time.Hour})
		if err != nil {
			t.Error(err)
		}
		begun <- login.ID
	}()
	waitForLock(t, p.database)
	p.exec(`UPDATE users SET tokens_valid_after = clock_timestamp()`)
	p.exec(`COMMIT`)
	if !p.stands(<-begun) {
		t.Error("the login was answered with a session that is revoked")
	}
}

// Whatever happens at once, a logout of all ends every session that was begun
// before it came back, and whoever logs in after that stays in.
func TestLoginsAndLogoutsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	for range 10 {
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := logIn(testContext(t), p.store, userID(1)); err != nil {
					t.Error(err)
				}
			})
		}
		for range 2 {
			all.Go(func() {
				_, err := p.store.EndSessions(testContext(t), identity.LogoutRequest{User: userID(1), Scope: identity.LogoutGlobal, Admit: admitAll})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// A session that is not ended must not be revoked by the mark either.
		if got := p.one(`SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.ended_at IS NULL AND s.valid_from < u.tokens_valid_after`); got != "0" {
			t.Errorf("%s sessions were begun after the last logout and are revoked by it", got)
		}
		p.logOut(identity.SessionID{}, identity.LogoutGlobal)
		if got := p.one(`SELECT count(*) FROM sessions WHERE ended_at IS NULL`); got != "0" {
			t.Errorf("%s sessions go on", got)
		}
		if !p.stands(p.logIn()) {
			t.Error("a login after all that is revoked")
		}
	}
}

func TestOldSessionsAreSweptInPieces(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	const add = `INSERT INTO sessions (id, user_id, auth_time, not_after, ended_at) SELECT gen_random_uuid(), id, now(), `
	p.exec(add + `now() + interval '1 hour', now() - interval '6 days' FROM users`)       // ended lately
	p.exec(add + `now() - interval '23 hours', NULL FROM users`)                          // over lately
	p.exec(add + `now() + interval '1 hour', now() - interval '8 days' FROM users`)       // ended long ago
	p.exec(add + `now() - interval '25 hours', NULL FROM users, generate_series(1, 600)`) // over long ago
	live := p.logIn()
	// Somebody holds one of those: nobody waits for it.
	p.exec(`BEGIN`)
	p.exec(`SELECT FROM sessions WHERE not_after < now() - interval '1 day' LIMIT 1 FOR UPDATE`)
	for _, want := range []int{postgres.SweepLimit, 100, 0} {
		if n, err := p.store.SweepSessions(testContext(t)); n != want || err != nil {
			t.Errorf("swept %d, %v; want %d", n, err, want)
		}
	}
	p.exec(`COMMIT`)
	if n, err := p.store.SweepSessions(testContext(t)); n != 1 || err != nil {
		t.Errorf("swept %d, %v; want the one that was held", n, err)
	}
	if got := p.one(`SELECT count(*) FROM sessions`); got != "3" || !p.stands(live) {
		t.Errorf("%s sessions are left, want 3", got)
	}
}

func TestAProfileIsTheUserAndItsCompanies(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	session := p.logIn()
	p.addCompany(companyID(1), true)
	p.addCompany(companyID(2), false)
	p.addCompany(companyID(4), true)
	p.addMember(userID(1), companyID(2), "admin")
	p.addMember(userID(1), companyID(3), "user") // which the companies table does not know
	got, err := p.store.Profile(testContext(t), userID(1), session)
	if err != nil {
		t.Fatal(err)
	}
	if got.User.ID != userID(1) || got.User.Company != companyID(1) || !got.Standing.Session.Exists || len(got.Standing.Memberships) != 3 {
		t.Errorf("got %+v", got)
	}
	if len(got.CompanyNames) != 2 || got.CompanyNames[companyID(2)] != "Company "+companyID(2).String() {
		t.Errorf("names %v", got.CompanyNames)
	}
	if got, err := p.store.Profile(testContext(t), userID(9), session); err != nil || got.Standing.Exists {
		t.Errorf("nobody: %+v, %v", got, err)
	}
	if got, err := p.store.AccountByID(testContext(t), userID(1)); err != nil || got.PasswordHash != aHash || got.User.Company != companyID(1) {
		t.Errorf("account: %+v, %v", got, err)
	}
	if _, err := p.store.AccountByID(testContext(t), userID(9)); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("nobody's account: %v", err)
	}
}

func TestTheSweepReadsIndexes(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	db.exec(`INSERT INTO sessions (id, user_id, auth_time, not_after, ended_at)
		SELECT gen_random_uuid(), $1, now(), now() + interval '1 day', CASE WHEN n % 100 = 0 THEN now() - n * interval '1 min' END
		  FROM generate_series(1, 20000) n`, userID(1).String())
	db.exec(`ANALYZE sessions`)
	plan := db.plan(postgres.SweepSQL, postgres.SweepLimit)
	if !strings.Contains(plan, "sessions_ended_idx") || !strings.Contains(plan, "sessions_gc_idx") {
		t.Errorf("plan:\n%s", plan)
	}
}
