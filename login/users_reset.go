package login

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/problem"
)

const (
	forgotPath = "/api/v1/users/password/forgot"
	resetPath  = "/api/v1/users/password/reset"
)

// longestOneTime bounds a token that was mailed, in bytes; ours are shorter.
const longestOneTime = 256

// errOneTime is one text for every cause: who holds a token that is not good any more
// learns nothing of why.
var errOneTime = &problem.Problem{Reason: "bad_one_time_token", Status: http.StatusBadRequest, Detail: "Invalid or expired token."}

// told is an answer that says no more than that.
type told struct {
	Message string `json:"message"`
}

// forgotPassword is POST /api/v1/users/password/forgot. Who has the address is asked
// after the answer, which is the same, and as fast, for one that nobody has.
func (s *Service) forgotPassword(ctx context.Context, x *exchange) (answer, error) {
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	email, err := readEmail(body)
	if err != nil {
		return answer{}, err
	}
	err = s.ask(ctx,
		letter{request: identity.OneTimeRequest{Purpose: identity.ResetPurpose, Email: email, Lifetime: s.with.Mail.ResetFor}},
		identity.Budget{Key: s.key("mail source", "", cut(x.source, 32, 64)), Quotas: s.with.Limits.MailSource},
		identity.Budget{Key: s.key("mail reset", fold(email), netip.Prefix{}), Quotas: s.with.Limits.MailAddress})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusAccepted, result: "asked", body: told{
		Message: "If there is an account with this address, a mail is on its way to it.",
	}}, nil
}

func readEmail(body []byte) (string, error) {
	m, err := decode(body, "email")
	if err != nil {
		return "", err
	}
	if m == nil {
		return "", wrongBody("missing", "Field required")
	}
	var wrong faults
	email, ok := m.required("email", &wrong)
	if ok && identity.CheckEmail(email) != nil {
		wrong.add("email", "value_error", "value is not a valid email address")
	}
	return email, wrong.err()
}

// resetPassword is POST /api/v1/users/password/reset. No failure counts against
// guessing, since 256 random bits are not guessed, and nothing is hashed for a token
// that is not good.
func (s *Service) resetPassword(ctx context.Context, x *exchange) (answer, error) {
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	secret, next, err := s.readReset(body)
	if err != nil {
		return answer{}, err
	}
	user, err := s.oneTimeUser(ctx, secret)
	if err != nil {
		return answer{}, err
	}
	x.user = user.ID
	hash, err := s.hashNew(ctx, next, user)
	if err != nil {
		return answer{}, err
	}
	within, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, ended, err := s.with.Mail.Tokens.ResetPassword(within, secret, hash)
	if err != nil {
		return answer{}, unused(err)
	}
	s.metrics.ended.WithLabelValues(endedPasswordReset).Add(float64(ended))
	waitUntil(ctx, time.Now().Add(hearing))
	return answer{status: http.StatusOK, result: endedPasswordReset, body: told{
		Message: "The password was changed, and every login has ended. Log in with the new password.",
	}}, nil
}

func (s *Service) readReset(body []byte) (secret, next string, err error) {
	m, err := decode(body, "token", "new_password")
	if err != nil {
		return "", "", err
	}
	if m == nil {
		return "", "", wrongBody("missing", "Field required")
	}
	var wrong faults
	secret = m.oneTime(&wrong)
	next, ok := m.required("new_password", &wrong)
	if ok {
		wrong.newPassword("new_password", password.CheckNew(next, s.with.ProjectName))
	}
	return secret, next, wrong.err()
}

// oneTime is a token that was mailed.
func (m members) oneTime(wrong *faults) string {
	secret, ok := m.required("token", wrong)
	if ok && len(secret) > longestOneTime {
		wrong.add("token", "string_too_long", "String should have at most 256 characters")
	}
	return secret
}

func (s *Service) oneTimeUser(ctx context.Context, secret string) (identity.User, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	user, err := s.with.Mail.Tokens.OneTimeUser(ctx, identity.ResetPurpose, secret)
	if err != nil {
		return identity.User{}, unused(err)
	}
	return user, nil
}

// hashNew hashes a password that its user may have. The token is good for another try
// where it may not.
func (s *Service) hashNew(ctx context.Context, next string, user identity.User) (string, error) {
	var wrong faults
	if wrong.newPassword("new_password", password.CheckNew(next, user.Email, user.FullName)); len(wrong) > 0 {
		return "", wrong.err()
	}
	permit, err := awaitPermit(ctx, s.with.Passwords)
	if err != nil {
		return "", unanswered(err)
	}
	defer permit.Release()
	hash, err := hashPassword(ctx, permit, next)
	switch {
	case err == nil:
		return hash, nil
	case errors.Is(err, password.ErrTooLong):
		wrong.newPassword("new_password", err)
		return "", wrong.err()
	default:
		return "", err
	}
}

// unused is the refusal when a token did not do what it is for.
func unused(err error) error {
	if errors.Is(err, identity.ErrOneTimeRefused) {
		return errOneTime.Because(err)
	}
	return unanswered(err)
}
