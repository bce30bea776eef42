package login

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/atenex/gatehouse/internal/identity"
)

const (
	verifyPath    = "/api/v1/users/email/verify"
	askVerifyPath = "/api/v1/users/me/email/verify"
)

// verifyEmail is POST /api/v1/users/email/verify. Never GET: scanners of mail follow
// links, and would confirm addresses that nobody has read.
func (s *Service) verifyEmail(ctx context.Context, x *exchange) (answer, error) {
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	m, err := decode(body, "token")
	if err != nil {
		return answer{}, err
	}
	if m == nil {
		return answer{}, wrongBody("missing", "Field required")
	}
	var wrong faults
	secret := m.oneTime(&wrong)
	if err := wrong.err(); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if x.user, err = s.with.Mail.Tokens.VerifyEmail(ctx, secret); err != nil {
		return answer{}, unused(err)
	}
	return answer{status: http.StatusOK, result: "verified", body: told{Message: "The address is confirmed."}}, nil
}

// askVerification is POST /api/v1/users/me/email/verify. Whoever has confirmed the
// address already is told the same, and gets no mail.
func (s *Service) askVerification(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.acting(ctx, x)
	if err != nil {
		return answer{}, err
	}
	if err := s.stands(ctx, credential); err != nil {
		return answer{}, err
	}
	err = s.ask(ctx, letter{request: s.verification(credential.User)}, identity.Budget{
		Key: s.key("mail verify", credential.User.String(), netip.Prefix{}), Quotas: s.with.Limits.MailAddress,
	})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusAccepted, result: "asked", body: told{
		Message: "Unless your address is confirmed already, a mail is on its way to it.",
	}}, nil
}

func (s *Service) verification(user identity.UserID) identity.OneTimeRequest {
	return identity.OneTimeRequest{Purpose: identity.VerifyPurpose, User: user, Lifetime: s.with.Mail.VerifyFor}
}
