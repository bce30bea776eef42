package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

const aNewHash = "another-hash"

// mailed is a token for ada.
func (p people) mailed(purpose identity.OneTimePurpose) string {
	p.t.Helper()
	made, err := p.store.MakeOneTime(testContext(p.t), identity.OneTimeRequest{Purpose: purpose, Email: "ADA@example.com", Lifetime: time.Hour})
	if err != nil {
		p.t.Fatal(err)
	}
	if made.User != userID(1) || made.Email != "ada@example.com" {
		p.t.Errorf("the token is for %v at %q", made.User, made.Email)
	}
	return made.Secret
}

// use uses a token of that purpose up, and reports whether it was good.
func (p people) use(purpose identity.OneTimePurpose, secret string) bool {
	p.t.Helper()
	var user identity.UserID
	var err error
	if purpose == identity.ResetPurpose {
		user, _, err = p.store.ResetPassword(testContext(p.t), secret, aNewHash)
	} else {
		user, err = p.store.VerifyEmail(testContext(p.t), secret)
	}
	switch {
	case err == nil && user == userID(1):
		return true
	case errors.Is(err, identity.ErrOneTimeRefused) && user.IsZero():
		return false
	}
	p.t.Fatalf("got %v, %v", user, err)
	return false
}

func TestAResetEndsEveryLogin(t *testing.T) {
	p := newPeople(t)
	one, two := p.logIn(), p.logIn()
	p.exec(`INSERT INTO login_throttle (key, failures, last_at, blocked_until, expires_at, user_id)
		VALUES ('\x00112233445566778899aabbccddeeff', 9, now(), now() + interval '5 minutes', now() + interval '1 hour', $1)`, userID(1).String())
	secret := p.mailed(identity.ResetPurpose)
	if held := p.one(`SELECT row_to_json(t)::text FROM one_time_tokens t`); strings.Contains(held, secret) || strings.Contains(held, "ada@") || strings.Contains(held, aHash) {
		t.Errorf("the table holds a token, an address or a hash: %s", held)
	}
	if u, err := p.store.OneTimeUser(testContext(t), identity.ResetPurpose, secret); err != nil || u.ID != userID(1) || u.Email != "ada@example.com" {
		t.Errorf("the token is of %+v, %v", u, err)
	}
	if _, ended, err := p.store.ResetPassword(testContext(t), secret, aNewHash); err != nil || ended != 2 {
		t.Fatalf("ended %d, %v, want 2", ended, err)
	}
	if p.stands(one) || p.stands(two) {
		t.Error("a session goes on")
	}
	for _, test := range []struct{ what, sql, want string }{
		{"the hash", `SELECT hashed_password FROM users`, aNewHash},
		{"tokens without a session", `SELECT tokens_valid_after > now() - interval '1 minute' FROM users`, "true"},
		{"when it was changed", `SELECT password_changed_at > now() - interval '1 minute' FROM users`, "true"},
		{"failures", `SELECT count(*) FROM login_throttle`, "0"},
		{"why sessions ended", `SELECT string_agg(DISTINCT end_reason, ',') FROM sessions`, "password_reset"},
		{"the record", `SELECT count(*) FROM audit_log WHERE event = 'password.reset' AND subject_user = actor_user AND details->>'by' = 'mail'`, "1"},
		{"the record of the sessions", `SELECT details->>'sessions' FROM audit_log WHERE event = 'session.ended'`, "2"},
	} {
		if got := p.one(test.sql); got != test.want {
			t.Errorf("%s: %s, want %s", test.what, got, test.want)
		}
	}
	if p.use(identity.ResetPurpose, secret) {
		t.Error("a token is good twice")
	}
}

func TestWhatVoidsAOneTimeToken(t *testing.T) {
	both := []identity.OneTimePurpose{identity.ResetPurpose, identity.VerifyPurpose}
	resets, verifies := both[:1], both[1:]
	p := newPeople(t)
	for _, test := range []struct {
		name, sql string
		purposes  []identity.OneTimePurpose
		good      bool
	}{
		{"nothing", `SELECT 1`, both, true},
		{"a login", `UPDATE users SET last_login = now()`, both, true},
		{"its time", `UPDATE one_time_tokens SET expires_at = clock_timestamp()`, both, false},
		{"another address", `UPDATE users SET email = 'ada@example.net'`, both, false},
		{"another password", `UPDATE users SET hashed_password = 'a-third-hash'`, resets, false},
		{"another password, for a verification", `UPDATE users SET hashed_password = 'a-third-hash'`, verifies, true},
		{"no password any more", `UPDATE users SET hashed_password = NULL`, resets, false},
		{"a user who is disabled", `UPDATE users SET is_active = false`, both, false},
	} {
		for _, purpose := range test.purposes {
			p := p
			p.database = p.in(t)
			p.exec(`UPDATE users SET email = 'ada@example.com', hashed_password = $1, is_active = true, email_verified_at = NULL`, aHash)
			secret := p.mailed(purpose)
			p.exec(test.sql)
			if _, err := p.store.OneTimeUser(testContext(t), purpose, secret); errors.Is(err, identity.ErrOneTimeRefused) == test.good {
				t.Errorf("%s, %s: a look at it says %v", test.name, purpose, err)
			}
			if got := p.use(purpose, secret); got != test.good {
				t.Errorf("%s, %s: good %v, want %v", test.name, purpose, got, test.good)
			}
		}
	}
	p.exec(`UPDATE users SET email = 'ada@example.com', hashed_password = $1, is_active = true, email_verified_at = NULL`, aHash)
	first := p.mailed(identity.ResetPurpose)
	verify := p.mailed(identity.VerifyPurpose)
	second := p.mailed(identity.ResetPurpose)
	for name, secret := range map[string]string{"the one before": first, "one of another purpose": verify, "none": "", "a long one": strings.Repeat("x", 300), "a NUL": "\x00"} {
		if p.use(identity.ResetPurpose, secret) {
			t.Errorf("%s is good", name)
		}
	}
	if !p.use(identity.ResetPurpose, second) || !p.use(identity.VerifyPurpose, verify) {
		t.Error("the live one of each purpose is not good")
	}
	third := p.mailed(identity.ResetPurpose)
	p.exec(`DELETE FROM users`)
	if p.use(identity.ResetPurpose, third) {
		t.Error("a token of a user who is gone is good")
	}
}

func TestOfTwoResetsAtOnceOneWins(t *testing.T) {
	p := newPeople(t)
	for range 5 {
		secret := p.mailed(identity.ResetPurpose)
		won := make(chan bool, 4)
		var all sync.WaitGroup
		for range cap(won) {
			all.Go(func() {
				_, _, err := p.store.ResetPassword(testContext(t), secret, aNewHash)
				if err != nil && !errors.Is(err, identity.ErrOneTimeRefused) {
					t.Errorf("got %v", err)
				}
				won <- err == nil
			})
		}
		all.Wait()
		close(won)
		wins := 0
		for one := range won {
			if one {
				wins++
			}
		}
		if wins != 1 {
			t.Fatalf("%d of %d resets with one token went through, want 1", wins, cap(won))
		}
	}
}

func TestWhoAsksTwiceAtOnceHasOneLiveToken(t *testing.T) {
	p := newPeople(t)
	secrets := make(chan string, 6)
	var all sync.WaitGroup
	for range cap(secrets) {
		all.Go(func() { secrets <- p.mailed(identity.ResetPurpose) })
	}
	all.Wait()
	close(secrets)
	good := 0
	for secret := range secrets {
		if _, err := p.store.OneTimeUser(testContext(t), identity.ResetPurpose, secret); err == nil {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d live tokens, want 1", good)
	}
}

func TestWhoIsNotWrittenTo(t *testing.T) {
	p := newPeople(t)
	for _, test := range []struct {
		name, sql, email string
		purpose          identity.OneTimePurpose
	}{
		{"nobody has the address", `SELECT 1`, "nobody@example.com", identity.ResetPurpose},
		{"the Kelvin sign is no k", `UPDATE users SET email = 'kate@example.com'`, "\u212aate@example.com", identity.ResetPurpose},
		{"a NUL", `SELECT 1`, "ada\x00@example.com", identity.ResetPurpose},
		{"a disabled user", `UPDATE users SET is_active = false`, "ada@example.com", identity.ResetPurpose},
		{"a verified address", `UPDATE users SET email_verified_at = now()`, "ada@example.com", identity.VerifyPurpose},
	} {
		p.exec(`UPDATE users SET email = 'ada@example.com', is_active = true, email_verified_at = NULL`)
		p.exec(test.sql)
		_, err := p.store.MakeOneTime(testContext(t), identity.OneTimeRequest{Purpose: test.purpose, Email: test.email, Lifetime: time.Hour})
		if !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", test.name, err)
		}
	}
	if left := p.one(`SELECT count(*) FROM one_time_tokens`); left != "0" {
		t.Errorf("%s tokens were made", left)
	}
}

func TestOneTimeTokensThatAreOverAreDeleted(t *testing.T) {
	p := newPeople(t)
	p.mailed(identity.ResetPurpose)
	if swept, err := p.store.SweepOneTimeTokens(testContext(t)); swept != 0 || err != nil {
		t.Errorf("swept %d, %v, want none yet", swept, err)
	}
	p.exec(`UPDATE one_time_tokens SET expires_at = now() - interval '1 second'`)
	if swept, err := p.store.SweepOneTimeTokens(testContext(t)); swept != 1 || err != nil {
		t.Errorf("swept %d, %v, want 1", swept, err)
	}
}

// What lets somebody in without an invitation's token is this column alone.
func TestAVerifiedAddressOpensItsInvitation(t *testing.T) {
	p := newPeople(t)
	p.addCompany(companyID(2), true)
	if _, _, err := p.store.Invite(testContext(t), identity.InviteRequest{Company: companyID(2), Email: "Ada@example.com", Role: "user", Lifetime: time.Hour}); err != nil {
		t.Fatal(err)
	}
	join := func() error {
		_, err := p.store.Join(testContext(t), identity.JoinRequest{User: userID(1), Want: companyID(2), Admit: func(identity.Standing) error { return nil }})
		return err
	}
	if err := join(); !errors.Is(err, identity.ErrJoinRefused) {
		t.Fatalf("an address that is not verified: %v", err)
	}
	if !p.use(identity.VerifyPurpose, p.mailed(identity.VerifyPurpose)) {
		t.Fatal("the token is not good")
	}
	if n := p.one(`SELECT count(*) FROM audit_log WHERE event = 'email.verified' AND subject_user = $1`, userID(1).String()); n != "1" {
		t.Errorf("%s records of it, want 1", n)
	}
	if err := join(); err != nil {
		t.Errorf("a verified address: %v", err)
	}
}
