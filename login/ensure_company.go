package login

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

// longestInvitation bounds the secret of an invitation, in characters.
const longestInvitation = 512

// wish is what the body of ensure-company asks for; both may be absent.
type wish struct {
	company    identity.CompanyID
	invitation string
	// nobodys: the nil UUID was asked for, which no company has and which in
	// company would read as none.
	nobodys bool
}

// ensured is the answer (contract section 7).
type ensured struct {
	UserID         string `json:"user_id"`
	CompanyID      string `json:"company_id"`
	Message        string `json:"message"`
	NewAccessToken string `json:"new_access_token"`
	TokenType      string `json:"token_type"`
}

// ensureCompany is POST /api/v1/users/me/ensure-company. Who asks is settled
// before the body is looked at, and judged again under the lock on their row.
func (s *Service) ensureCompany(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.acting(ctx, x)
	if err != nil {
		return answer{}, err
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	want, err := readWish(body)
	if err != nil {
		return answer{}, err
	}
	// One moment for all that follows: what is admitted at it can be minted at it.
	now := s.with.Now()
	if !credential.HasSession && over(credential.Ends(), now) {
		return answer{}, problem.TokenExpired
	}
	joined, err := s.join(ctx, credential, want, now)
	if err != nil {
		return answer{}, err
	}
	x.company = joined.User.Company
	// Minted from the row that was committed, never from the token presented;
	// it belongs to the same session and ends with it. A token without one is a
	// session of its own: exchanging it does not prolong it, or it would live for
	// ever and past LEGACY_TOKENS_UNTIL.
	going := identity.Login{User: joined.User, ID: credential.Session, AuthTime: joined.Session.AuthTime, NotAfter: joined.Session.NotAfter}
	if !credential.HasSession {
		going.NotAfter = credential.Ends()
	}
	minted, err := s.with.Issuer.Issue(grantTo(going), now)
	if err != nil {
		return answer{}, err
	}
	company := joined.User.Company.String()
	done := ensured{
		UserID:         joined.User.ID.String(),
		CompanyID:      company,
		Message:        "Company association confirmed as " + company + ".",
		NewAccessToken: minted.Token,
		TokenType:      "bearer",
	}
	if !joined.Changed {
		return answer{status: http.StatusOK, result: "confirmed", body: done}, nil
	}
	if s.with.AnyCompany {
		s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "a company was joined under a policy that asks for no invitation",
			slog.String("user_id", done.UserID), slog.String("company_id", company))
	}
	done.Message = "Company association successfully updated to " + company + "."
	return answer{status: http.StatusOK, result: "joined", body: done}, nil
}

// bearer judges the token of a request as far as a token alone can be judged,
// and notes for the log whose it is.
func (s *Service) bearer(x *exchange) (identity.Credential, error) {
	raw, err := token.Bearer(x.r.Header.Values("Authorization"))
	if err != nil {
		return identity.Credential{}, err
	}
	credential, err := s.with.Verifier.Verify(raw, s.with.Now())
	if err != nil {
		return identity.Credential{}, err
	}
	x.user = credential.User
	return credential, nil
}

// over reports that no token of even a second fits before end; with a leeway, a
// token may be good elsewhere and still have nothing left to hand on.
func over(end, now time.Time) bool { return end.Unix() <= now.Unix() }

func readWish(body []byte) (wish, error) {
	m, err := decode(body, "company_id", "invitation_token")
	if err != nil {
		return wish{}, err
	}
	var want wish
	var wrong faults
	if text, ok := m.optional("company_id", "uuid_type", "UUID input should be a string, bytes or UUID object", &wrong); ok {
		want.company, err = identity.ParseCompanyID(text)
		if err != nil {
			wrong.add("company_id", "uuid_parsing", "Input should be a valid UUID")
		}
		want.nobodys = err == nil && want.company.IsZero()
	}
	want.invitation = m.invitation(&wrong)
	return want, wrong.err()
}

// invitation is the secret of an invitation; empty: none.
func (m members) invitation(wrong *faults) string {
	text, ok := m.optional("invitation_token", "string_type", "Input should be a valid string", wrong)
	if ok && utf8.RuneCountInString(text) > longestInvitation {
		wrong.add("invitation_token", "string_too_long", "String should have at most 512 characters")
	}
	return text
}

func (s *Service) join(ctx context.Context, c identity.Credential, want wish, now time.Time) (identity.JoinResult, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	joined, err := s.with.Companies.Join(ctx, identity.JoinRequest{
		User:            c.User,
		Session:         c.Session,
		Want:            want.company,
		InvitationToken: want.invitation,
		Default:         s.with.DefaultCompany,
		AnyCompany:      s.with.AnyCompany,
		Admit: func(standing identity.Standing) error {
			if err := s.admitToMint(c, standing, now); err != nil || !want.nobodys {
				return err
			}
			return s.unknown()
		},
	})
	switch {
	case err == nil:
		return joined, nil
	case errors.Is(err, identity.ErrNoCompany):
		return joined, errNoCompany
	case errors.Is(err, identity.ErrJoinRefused):
		return joined, errJoinRefused
	case errors.Is(err, identity.ErrUnknownCompany):
		return joined, errUnknownCompany
	default:
		return joined, unadmitted(err)
	}
}

// unadmitted is the refusal when a step that judges the user by itself failed:
// the judgement, or that there was none.
func unadmitted(err error) error {
	var refused *problem.Problem
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, identity.ErrNotFound):
		return problem.UserNotFound
	default:
		return unanswered(err)
	}
}

// unknown is the refusal of a company that nobody has.
func (s *Service) unknown() error {
	if s.with.AnyCompany {
		return errUnknownCompany
	}
	return errJoinRefused
}

// admit judges the token against what the database says at this moment.
func (s *Service) admit(c identity.Credential, standing identity.Standing, now time.Time) error {
	refusal := standing.Admit(c, s.with.LegacyTokensUntil, now)
	if refusal == nil {
		return nil // and not refusal: a nil pointer in an error is no nil error
	}
	return refusal
}

// admitToMint is admit for an answer that holds another token of the session,
// which has to last long enough for one.
func (s *Service) admitToMint(c identity.Credential, standing identity.Standing, now time.Time) error {
	if err := s.admit(c, standing, now); err != nil {
		return err
	}
	if c.HasSession && over(standing.Session.NotAfter, now) {
		return problem.TokenRevoked
	}
	return nil
}
