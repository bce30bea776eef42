package login

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
)

// passwords are what the body of a password change holds.
type passwords struct{ current, next string }

// changed is the answer to a password change (contract section 6).
type changed struct {
	Message        string `json:"message"`
	NewAccessToken string `json:"new_access_token"`
	TokenType      string `json:"token_type"`
	refreshing
}

// changePassword is POST /api/v1/users/me/password. The token is judged before
// anything is hashed, so that one that was revoked cannot be used to guess with,
// and again under the lock of the row.
func (s *Service) changePassword(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.acting(ctx, x)
	if err != nil {
		return answer{}, err
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	given, err := s.readPasswords(body)
	if err != nil {
		return answer{}, err
	}
	// One moment for all that follows: what is admitted at it can be minted at it.
	now := s.with.Now()
	going, ended, err := s.replacePassword(ctx, x, credential, given, now)
	if err != nil {
		return answer{}, err
	}
	s.metrics.ended.WithLabelValues(endedPasswordChange).Add(float64(ended))
	x.company = going.User.Company
	minted, err := s.with.Issuer.Issue(grantTo(going), now)
	if err != nil {
		return answer{}, err
	}
	waitUntil(ctx, time.Now().Add(hearing))
	return answer{status: http.StatusOK, result: endedPasswordChange, body: changed{
		Message:        "Password changed successfully.",
		NewAccessToken: minted.Token,
		TokenType:      "bearer",
		refreshing:     refreshingWith(going.Refresh, now),
	}}, nil
}

func (s *Service) readPasswords(body []byte) (passwords, error) {
	m, err := decode(body, "current_password", "new_password")
	if err != nil {
		return passwords{}, err
	}
	if m == nil {
		return passwords{}, wrongBody("missing", "Field required")
	}
	var wrong faults
	current, ok := m.required("current_password", &wrong)
	switch {
	case !ok:
	case utf8.RuneCountInString(current) > longestPassword:
		wrong.tooLong("current_password")
	case strings.IndexByte(current, 0) >= 0:
		wrong.holdsNUL("current_password")
	}
	next, ok := m.required("new_password", &wrong)
	if ok {
		wrong.newPassword("new_password", password.CheckNew(next, s.with.ProjectName))
	}
	return passwords{current: current, next: next}, wrong.err()
}

// newPassword notes why a password may not be set; nil: it may.
func (f *faults) newPassword(field string, why error) {
	switch {
	case why == nil:
	case errors.Is(why, password.ErrShort):
		f.add(field, "string_too_short", "String should have at least 8 characters")
	case errors.Is(why, password.ErrLong):
		f.tooLong(field)
	case errors.Is(why, password.ErrHoldsNUL):
		f.holdsNUL(field)
	case errors.Is(why, password.ErrTooLong):
		f.add(field, "value_error", "Value error, the password has more than 72 bytes")
	default:
		f.add(field, "value_error", "Value error, the password "+why.Error())
	}
}

// replacePassword proves the current password and stores the new one. It is
// proved anew where the hash is another one by then, as in logIn.
func (s *Service) replacePassword(ctx context.Context, x *exchange, c identity.Credential, given passwords, now time.Time) (identity.Login, int, error) {
	account, err := s.ownAccount(ctx, c, now)
	if err != nil {
		return identity.Login{}, 0, err
	}
	// A token is no licence to guess: this counts as a login of its account.
	turn, err := s.reserve(ctx, x, account.Email)
	if err != nil {
		return identity.Login{}, 0, err
	}
	defer turn.end(ctx)
	for range proofs {
		oldHash, newHash, err := s.rehash(ctx, c, turn, given, now)
		if err != nil {
			return identity.Login{}, 0, err
		}
		going, ended, err := s.store(ctx, identity.PasswordChange{
			User:        c.User,
			Session:     c.Session,
			OldHash:     oldHash,
			NewHash:     newHash,
			Lifetime:    s.with.SessionLifetime,
			RefreshIdle: s.with.RefreshIdle,
			Client:      x.client(),
			Admit:       func(standing identity.Standing) error { return s.admitToMint(c, standing, now) },
		})
		switch {
		case err == nil:
			return going, ended, nil
		case !errors.Is(err, identity.ErrChanged):
			return identity.Login{}, 0, unadmitted(err)
		}
	}
	return identity.Login{}, 0, errUnavailable.Because(identity.ErrChanged)
}

func (s *Service) store(ctx context.Context, change identity.PasswordChange) (identity.Login, int, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return s.with.Sessions.ChangePassword(ctx, change)
}

// rehash proves the current password, exactly like a login does and in the same
// time, and hashes the new one.
func (s *Service) rehash(ctx context.Context, c identity.Credential, turn *turn, given passwords, now time.Time) (oldHash, newHash string, err error) {
	permit, err := awaitPermit(ctx, s.with.Passwords)
	if err != nil {
		return "", "", unanswered(err)
	}
	defer permit.Release()
	account, err := s.ownAccount(ctx, c, now)
	if err != nil {
		return "", "", err
	}
	if !verifyPassword(ctx, permit, account.PasswordHash, given.current).OK {
		s.noteFailure(ctx, account, false)
		return "", "", refuse(ctx, permit, turn, account.ID, errWrongPassword)
	}
	turn.proved(account.ID)
	// After the proof: whoever only holds a token learns nothing from a refusal.
	why := password.CheckNew(given.next, account.Email, account.FullName)
	if why == nil {
		newHash, why = hashPassword(ctx, permit, given.next)
	}
	switch {
	case why == nil:
		return account.PasswordHash, newHash, nil
	case errors.Is(why, password.ErrGuessable), errors.Is(why, password.ErrTooLong):
		var wrong faults
		wrong.newPassword("new_password", why)
		return "", "", wrong.err()
	default:
		return "", "", why
	}
}

// ownAccount is the account of whoever asks, if they still may.
func (s *Service) ownAccount(ctx context.Context, c identity.Credential, now time.Time) (identity.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	standing, err := s.with.Directory.Standing(ctx, c.User, c.Session, identity.CompanyID{})
	if err != nil {
		return identity.Account{}, unanswered(err)
	}
	if err := s.admitToMint(c, standing, now); err != nil {
		return identity.Account{}, err
	}
	account, err := s.with.Accounts.AccountByID(ctx, c.User)
	if err != nil {
		return identity.Account{}, unadmitted(err)
	}
	return account, nil
}
