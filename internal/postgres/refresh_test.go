package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// begin is a login with a refresh token.
func (p people) begin(idle, lifetime time.Duration) identity.Login {
	p.t.Helper()
	login, err := p.store.StartSession(testContext(p.t), identity.LoginRequest{
		User: userID(1), PasswordHash: aHash, Lifetime: lifetime, RefreshIdle: idle,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return login
}

func (p people) present(secret string) (identity.Login, error) {
	return p.store.Refresh(testContext(p.t), identity.RefreshRequest{
		Secret: secret, Idle: time.Hour,
		Admit: func(user identity.UserID, session identity.SessionID, now identity.Standing) error {
			refusal := now.Admit(identity.Credential{User: user, Session: session, HasSession: true, KeyNamed: true}, time.Time{}, time.Now())
			if refusal == nil {
				return nil // and not refusal: a nil pointer in an error is no nil error
			}
			return refusal
		},
	})
}

func (p people) refresh(secret string) identity.Login {
	p.t.Helper()
	going, err := p.present(secret)
	if err != nil {
		p.t.Fatalf("a good refresh token is refused: %v", err)
	}
	return going
}

func (p people) refused(secret string, want error) {
	p.t.Helper()
	if _, err := p.present(secret); !errors.Is(err, want) {
		p.t.Errorf("got %v, want %v", err, want)
	}
}

func TestARefreshTokenIsGoodOnceAndLeavesASuccessor(t *testing.T) {
	p := newPeople(t)
	first := p.begin(time.Hour, 24*time.Hour)
	second := p.refresh(first.Refresh.Secret)
	if second.ID != first.ID || !second.NotAfter.Equal(first.NotAfter) || !second.AuthTime.Equal(first.AuthTime) {
		t.Errorf("another session: %+v, after %+v", second, first)
	}
	if second.Refresh.Secret == first.Refresh.Secret || !strings.HasPrefix(second.Refresh.Secret, "gatehouse_rt_") {
		t.Errorf("the successor is %q", second.Refresh.Secret)
	}
	third := p.refresh(second.Refresh.Secret)
	if !third.Refresh.ExpiresAt.After(first.Refresh.ExpiresAt) {
		t.Errorf("the time begins anew with each use: %v, then %v", first.Refresh.ExpiresAt, third.Refresh.ExpiresAt)
	}
	held := p.one(`SELECT string_agg(token_hash::text || coalesce(sealed::text, ''), ' ') FROM refresh_tokens`)
	for _, secret := range []string{first.Refresh.Secret, second.Refresh.Secret, third.Refresh.Secret} {
		if strings.Contains(held, secret) {
			t.Error("the table holds a token")
		}
	}
}

// An answer can be lost, and two tabs can ask at once: neither logs anybody out.
func TestAnHonestClientMayAskTwice(t *testing.T) {
	p := newPeople(t)
	first := p.begin(time.Hour, 24*time.Hour)
	second := p.refresh(first.Refresh.Secret)
	p.exec(`UPDATE refresh_tokens SET used_at = used_at - interval '9 minutes'`)
	if again := p.refresh(first.Refresh.Secret); again.Refresh.Secret != second.Refresh.Secret {
		t.Error("the answer that was lost, minutes later: another successor")
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	successors := map[string]bool{}
	for range 8 {
		all.Go(func() {
			going, err := p.present(second.Refresh.Secret)
			if err != nil {
				t.Errorf("one of eight at once is refused: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			successors[going.Refresh.Secret] = true
		})
	}
	all.Wait()
	if len(successors) != 1 {
		t.Errorf("eight at once got %d successors, want 1", len(successors))
	}
	// The grandparent of the live one, within the grace.
	p.exec(`UPDATE refresh_tokens SET used_at = clock_timestamp() WHERE used_at IS NOT NULL`)
	if again := p.refresh(first.Refresh.Secret); again.Refresh.Secret != second.Refresh.Secret {
		t.Error("within the grace, the same successor as before is the answer")
	}
}

func TestAStolenRefreshTokenEndsItsSessionAlone(t *testing.T) {
	p := newPeople(t)
	other := p.begin(time.Hour, 24*time.Hour)
	first := p.begin(time.Hour, 24*time.Hour)
	live := p.refresh(p.refresh(first.Refresh.Secret).Refresh.Secret)
	p.exec(`UPDATE refresh_tokens SET used_at = used_at - interval '11 seconds' WHERE used_at IS NOT NULL`)
	p.refused(first.Refresh.Secret, identity.ErrRefreshReused)
	if p.stands(first.ID) {
		t.Error("the session goes on")
	}
	if _, err := p.present(live.Refresh.Secret); err == nil {
		t.Error("the live token of the ended session is good")
	}
	if !p.stands(other.ID) {
		t.Error("another session of the user was ended")
	}
	p.refresh(other.Refresh.Secret)
	if reason := p.one(`SELECT end_reason FROM sessions WHERE id = $1`, first.ID.String()); reason != "refresh_reuse" {
		t.Errorf("the session ended by %q", reason)
	}
	events := p.one(`SELECT count(*) FROM audit_log WHERE event = 'refresh.reuse' AND outcome = 'denied' AND session_id = $1`, first.ID.String())
	if events != "1" {
		t.Errorf("%s records of it, want 1", events)
	}
}

// A thief who stays one step behind is found out when too much time has passed.
func TestALostAnswerIsNotAskedForTooLate(t *testing.T) {
	p := newPeople(t)
	first := p.begin(time.Hour, 24*time.Hour)
	second := p.refresh(first.Refresh.Secret)
	p.exec(`UPDATE refresh_tokens SET used_at = used_at - interval '11 minutes'`)
	p.refused(first.Refresh.Secret, identity.ErrRefreshReused)
	if p.stands(first.ID) {
		t.Error("the session goes on")
	}
	if _, err := p.present(second.Refresh.Secret); err == nil {
		t.Error("its live token is good")
	}
}

func TestANewPasswordTakesTheRefreshTokensOfEverySession(t *testing.T) {
	p := newPeople(t)
	asking := p.begin(time.Hour, 24*time.Hour)
	used := asking.Refresh.Secret
	live := p.refresh(used)
	other := p.begin(time.Hour, 24*time.Hour)
	going, _, err := p.store.ChangePassword(testContext(t), identity.PasswordChange{
		User: userID(1), Session: asking.ID, OldHash: aHash, NewHash: "another", Lifetime: time.Hour, RefreshIdle: time.Hour,
		Admit: func(identity.Standing) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{used, live.Refresh.Secret, other.Refresh.Secret} {
		if _, err := p.present(secret); err == nil {
			t.Error("a refresh token of before is good")
		}
	}
	if p.refresh(going.Refresh.Secret).ID != asking.ID {
		t.Error("the new one is of another session")
	}
}

func TestWhatEndsARefreshToken(t *testing.T) {
	for _, test := range []struct{ name, sql string }{
		{"its time", `UPDATE refresh_tokens SET expires_at = now()`},
		{"the end of its session", `UPDATE sessions SET ended_at = now(), end_reason = 'logout'`},
		{"the absolute end of its session", `UPDATE sessions SET not_after = now()`},
		{"a mark on the user", `UPDATE users SET tokens_valid_after = clock_timestamp()`},
		{"a user who is disabled", `UPDATE users SET is_active = false`},
		{"a user who is gone", `DELETE FROM users`},
		{"a session that is gone", `DELETE FROM sessions`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPeople(t)
			first := p.begin(time.Hour, 24*time.Hour)
			p.exec(test.sql)
			if _, err := p.present(first.Refresh.Secret); err == nil {
				t.Error("it is good")
			}
			if used := p.one(`SELECT count(*) FROM refresh_tokens WHERE used_at IS NOT NULL`); used != "0" {
				t.Error("a refused one is used up")
			}
		})
	}
	p := newPeople(t)
	first := p.begin(time.Hour, 2*time.Minute)
	if first.Refresh.ExpiresAt.After(first.NotAfter) {
		t.Errorf("the token ends %v, its session %v", first.Refresh.ExpiresAt, first.NotAfter)
	}
	for _, text := range []string{"", "gatehouse_rt_", first.Refresh.Secret + "A", first.Refresh.Secret[1:], "gatehouse_rt_" + strings.Repeat("A", 43), strings.Repeat("x", 300)} {
		p.refused(text, identity.ErrRefreshRefused)
	}
}

func TestUsedRefreshTokensAreDeletedAfterAWeek(t *testing.T) {
	p := newPeople(t)
	first := p.begin(time.Hour, 24*time.Hour)
	live := p.refresh(first.Refresh.Secret)
	if swept, err := p.store.SweepRefreshTokens(testContext(t)); swept != 0 || err != nil {
		t.Errorf("swept %d, %v, want none yet", swept, err)
	}
	p.exec(`UPDATE refresh_tokens SET used_at = used_at - interval '8 days' WHERE used_at IS NOT NULL`)
	if swept, err := p.store.SweepRefreshTokens(testContext(t)); swept != 1 || err != nil {
		t.Errorf("swept %d, %v, want 1", swept, err)
	}
	p.refused(first.Refresh.Secret, identity.ErrRefreshRefused)
	p.refresh(live.Refresh.Secret)

	// What was left behind by sessions that are gone.
	p.exec(`TRUNCATE sessions; UPDATE refresh_tokens SET expires_at = now() - interval '2 days'`)
	if swept, err := p.store.SweepRefreshTokens(testContext(t)); swept != 2 || err != nil {
		t.Errorf("swept %d, %v, want 2", swept, err)
	}
}
