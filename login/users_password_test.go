package login_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
)

func passwordBody(current, next string) string {
	b, _ := json.Marshal(map[string]string{"current_password": current, "new_password": next})
	return string(b)
}

// owning is a store with one account, which may change its password.
func owning(account identity.Account) store {
	return store{
		standing:    func(context.Context) (identity.Standing, error) { return standing(), nil },
		accountByID: func(context.Context, identity.UserID) (identity.Account, error) { return account, nil },
		changePassword: func(_ context.Context, change identity.PasswordChange) (identity.Login, int, error) {
			if err := change.Admit(standing()); err != nil {
				return identity.Login{}, 0, err
			}
			if change.OldHash != account.PasswordHash {
				return identity.Login{}, 0, identity.ErrChanged
			}
			return begun(account.User, time.Now()), 3, nil
		},
	}
}

func TestTheBodyOfAPasswordChange(t *testing.T) {
	account := adaWith(argonOf(t, rightWords))
	tests := []struct {
		name   string
		body   string
		scheme password.Scheme
		status int
		kind   string // of the fault
		field  string
	}{
		{"a good change", passwordBody(rightWords, "some other words"), "", 200, "", ""},
		{"the same password again", passwordBody(rightWords, rightWords), "", 200, "", ""},
		{"eight characters", passwordBody(rightWords, "\u00e9ng\u00efn\u00e9s!"), "", 200, "", ""},
		{"no body", "", "", 422, "missing", ""},
		{"null", "null", "", 422, "missing", ""},
		{"no current password", `{"new_password":"some other words"}`, "", 422, "missing", "current_password"},
		{"no new password", `{"current_password":"x"}`, "", 422, "missing", "new_password"},
		{"a new password of null", `{"current_password":"x","new_password":null}`, "", 422, "string_type", "new_password"},
		{"a current password that is a number", `{"current_password":1,"new_password":"some other words"}`, "", 422, "string_type", "current_password"},
		{"a current password that is too long", passwordBody(strings.Repeat("x", 1025), "some other words"), "", 422, "string_too_long", "current_password"},
		{"a current password with a NUL", passwordBody("x\x00", "some other words"), "", 422, "value_error", "current_password"},
		{"a new password of seven characters", passwordBody(rightWords, "seven77"), "", 422, "string_too_short", "new_password"},
		{"a new password of 1025 characters", passwordBody(rightWords, strings.Repeat("x", 1025)), "", 422, "string_too_long", "new_password"},
		{"a new password with a NUL", passwordBody(rightWords, "eight888\x00"), "", 422, "value_error", "new_password"},
		{"a common password", passwordBody(rightWords, "Password123"), "", 422, "value_error", "new_password"},
		{"the product's name", passwordBody(rightWords, "GATEHOUSE"), "", 422, "value_error", "new_password"},
		{"the user's name", passwordBody(rightWords, "ada lovelace"), "", 422, "value_error", "new_password"},
		{"the user's address", passwordBody(rightWords, strings.ToUpper(adaEmail)), "", 422, "value_error", "new_password"},
		{"more than bcrypt can hold", passwordBody(rightWords, strings.Repeat("xy", 37)), password.Bcrypt, 422, "value_error", "new_password"},
		{"a lone surrogate", `{"current_password":"x","new_password":"eight888\ud800"}`, "", 422, "json_invalid", ""},
		{"a name in another case", `{"current_password":"x","New_Password":"some other words"}`, "", 422, "json_invalid", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newStageWith(t, owning(account), password.Options{Scheme: tt.scheme})
			grant := nativeGrant()
			grant.Session = session
			w := g.send(asUser(post(passwordPath, tt.body), g.tokenOf(grant)))
			if w.Code != tt.status {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status != http.StatusOK {
				loc := `["body"]`
				if tt.field != "" {
					loc = `["body","` + tt.field + `"]`
				}
				if want := `{"detail":[{"type":"` + tt.kind + `","loc":` + loc; !strings.HasPrefix(w.Body.String(), want) {
					t.Errorf("got %s, want %s…", w.Body, want)
				}
				return
			}
			body := decodeBody(t, w)
			raw, _ := body["new_access_token"].(string)
			c, err := g.verifier.Verify(raw, time.Now())
			if err != nil || c.Session != session || c.User != ada || body["token_type"] != "bearer" || body["message"] != "Password changed successfully." || len(body) != 3 {
				t.Errorf("got %s: %+v, %v", w.Body, c, err)
			}
			if n := g.count("gatehouse_sessions_ended_total", "password_change"); n != 3 {
				t.Errorf("%d sessions were counted, want 3", n)
			}
			if log := g.log.String(); strings.Contains(log, rightWords) || strings.Contains(log, raw) || strings.Contains(log, "some other words") {
				t.Errorf("the log holds a secret: %s", log)
			}
		})
	}
}

// A wrong current password looks the same and takes the same time, whatever
// there is to compare it with.
func TestEveryWrongCurrentPasswordLooksTheSame(t *testing.T) {
	tests := []struct {
		name string
		hash string
	}{
		{"on argon2id", argonOf(t, wrongWords)},
		{"on bcrypt", bcryptOf(t, wrongWords)},
		{"on no hash at all", ""},
		{"on a hash of an absurd cost", bcryptDear},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, owning(adaWith(tt.hash)))
				floor := g.passwords.Floor()
				start := time.Now()
				w := g.send(asUser(post(passwordPath, passwordBody(rightWords, "some other words")), g.tokenOf(nativeGrant())))
				took := time.Since(start)
				if w.Code != http.StatusBadRequest || w.Body.String() != `{"detail":"Current password is incorrect."}` {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
				if took < floor || took > floor+50*time.Millisecond {
					t.Errorf("answered after %v, want within %v and 50 ms more", took, floor)
				}
				if n := g.count("gatehouse_login_hash_seconds"); n != 1 {
					t.Errorf("%d hashes were computed, want 1", n)
				}
				if _, err := g.passwords.Admit(t.Context()); err != nil {
					t.Errorf("the permit was lost: %v", err)
				}
			})
		})
	}
}

func TestAPasswordChangeWhoseAccountChanges(t *testing.T) {
	good := adaWith(argonOf(t, rightWords))
	tests := []struct {
		name string
		then identity.Account // what is read after the first change was refused
		want int
	}{
		{"to another hash of the same password goes through", adaWith(bcryptOf(t, rightWords)), 200},
		{"to another password is refused", adaWith(argonOf(t, wrongWords)), 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := owning(tt.then)
				reads := 0
				s.accountByID = func(context.Context, identity.UserID) (identity.Account, error) {
					if reads++; reads == 1 {
						return good, nil
					}
					return tt.then, nil
				}
				g := newStage(t, s)
				if w := g.send(asUser(post(passwordPath, passwordBody(rightWords, "some other words")), g.tokenOf(nativeGrant()))); w.Code != tt.want {
					t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.want)
				}
			})
		})
	}
	t.Run("again and again is told to come back", func(t *testing.T) {
		s := owning(good)
		s.changePassword = func(context.Context, identity.PasswordChange) (identity.Login, int, error) {
			return identity.Login{}, 0, identity.ErrChanged
		}
		g := newStage(t, s)
		if w := g.send(asUser(post(passwordPath, passwordBody(rightWords, "some other words")), g.tokenOf(nativeGrant()))); w.Code != http.StatusServiceUnavailable {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}

// A token that was revoked cannot be used to guess with.
func TestNothingIsHashedForARevokedToken(t *testing.T) {
	s := owning(adaWith(argonOf(t, rightWords)))
	s.standing = func(context.Context) (identity.Standing, error) {
		return identity.Standing{Exists: true, Active: true}, nil
	}
	s.accountByID = nil // nor is the hash read
	g := newStage(t, s)
	grant := nativeGrant()
	grant.Session = session
	w := g.send(asUser(post(passwordPath, passwordBody(rightWords, "some other words")), g.tokenOf(grant)))
	if w.Code != http.StatusUnauthorized || g.count("gatehouse_login_hash_seconds") != 0 {
		t.Errorf("got %d %s, %d hashes", w.Code, w.Body, g.count("gatehouse_login_hash_seconds"))
	}
}
