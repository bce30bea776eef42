package login

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

const (
	companiesPath = "/api/v1/companies/"
	declinePath   = "/api/v1/users/me/invitations/decline"
	invitations   = "invitations"

	// invitationLifetime is how long an invitation waits to be accepted.
	invitationLifetime = 7 * 24 * time.Hour
	// mostOpenInvitations bounds those of one company.
	mostOpenInvitations = 100
	longestRole         = 64 // characters
)

// companyRoutes are those of a path of a company, and notes the ids in it:
// /api/v1/companies/{uuid}/invitations and …/invitations/{uuid}.
func (s *Service) companyRoutes(x *exchange) []route {
	rest, below := strings.CutPrefix(x.r.URL.Path, companiesPath)
	if !below {
		return nil
	}
	segments := strings.Split(rest, "/")
	company, err := identity.ParseCompanyID(segments[0])
	if err != nil || len(segments) < 2 || len(segments) > 3 || segments[1] != invitations {
		return nil
	}
	x.company = company
	if len(segments) == 2 {
		return []route{
			{name: routeListInvitations, method: http.MethodGet, serve: s.listInvitations},
			{name: routeInvite, method: http.MethodPost, serve: s.invite},
		}
	}
	if x.invitation, err = identity.ParseInvitationID(segments[2]); err != nil {
		return nil
	}
	return []route{{name: routeRevokeInvitation, method: http.MethodDelete, serve: s.revokeInvitation}}
}

// shownInvitation is one as an admin of its company sees it.
type shownInvitation struct {
	ID        string  `json:"id"`
	CompanyID string  `json:"company_id"`
	Email     *string `json:"email"`
	UserID    *string `json:"user_id"` // of one that is bound to an account
	Role      string  `json:"role"`
	InvitedBy *string `json:"invited_by"` // null: an operator
	CreatedAt string  `json:"created_at"`
	ExpiresAt string  `json:"expires_at"`
}

// madeInvitation shows the secret too, the one time that it is shown.
type madeInvitation struct {
	shownInvitation
	Token string `json:"token"`
}

func showInvitation(i identity.Invitation) shownInvitation {
	return shownInvitation{
		ID: i.ID.String(), CompanyID: i.Company.String(), Email: orNull(i.Email), UserID: userOrNull(i.User), Role: i.Role,
		InvitedBy: userOrNull(i.InvitedBy),
		CreatedAt: i.CreatedAt.UTC().Format(time.RFC3339), ExpiresAt: i.ExpiresAt.UTC().Format(time.RFC3339),
	}
}

func userOrNull(u identity.UserID) *string {
	if u.IsZero() {
		return nil
	}
	text := u.String()
	return &text
}

// invite is POST /api/v1/companies/{id}/invitations. The answer is the same
// whether or not somebody has the address: only who is in the company, which its
// admin may know, is told apart.
func (s *Service) invite(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.bearer(x)
	if err != nil {
		return answer{}, err
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	email, role, err := readInvitation(body)
	if err != nil {
		return answer{}, err
	}
	if err := s.spendOfUser(ctx, credential.User); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	judge := s.admitAdmin(credential, x.company, s.with.Now())
	made, secret, err := s.with.Invitations.Invite(ctx, identity.InviteRequest{
		Company: x.company, Email: email, Role: role, Lifetime: invitationLifetime, MostOpen: mostOpenInvitations,
		By: identity.Inviter{User: credential.User, Session: credential.Session, Admit: func(standing identity.Standing) error {
			if err := judge(standing); err != nil {
				return err
			}
			// After the judgement of who asks: a stranger learns no rule from it.
			if !slices.Contains(s.with.InvitationRoles, role) {
				return errRoleRefused
			}
			return nil
		}},
	})
	switch {
	case err == nil:
		return answer{status: http.StatusCreated, result: "created", body: madeInvitation{showInvitation(made), secret}}, nil
	case errors.Is(err, identity.ErrMember):
		return answer{}, errMember
	case errors.Is(err, identity.ErrInvited):
		return answer{}, errInvited
	case errors.Is(err, identity.ErrManyInvitations):
		return answer{}, errManyInvitations
	case errors.Is(err, identity.ErrCompanySuspended):
		return answer{}, problem.CompanySuspended
	default:
		return answer{}, unadmitted(err)
	}
}

func readInvitation(body []byte) (email, role string, err error) {
	m, err := decode(body, "email", "role")
	if err != nil {
		return "", "", err
	}
	if m == nil {
		return "", "", wrongBody("missing", "Field required")
	}
	var wrong faults
	email, ok := m.required("email", &wrong)
	if ok && identity.CheckEmail(email) != nil {
		wrong.add("email", "value_error", "value is not a valid email address")
	}
	role, ok = m.optional("role", "string_type", "Input should be a valid string", &wrong)
	switch {
	case !ok:
		role = defaultRole
	case !isRole(role):
		wrong.add("role", "value_error", "Value error, a role is one word of at most 64 characters without a comma")
	}
	return email, role, wrong.err()
}

// isRole accepts what a list of roles with commas can hold.
func isRole(text string) bool {
	return text != "" && utf8.RuneCountInString(text) <= longestRole &&
		!strings.ContainsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// admitAdmin judges who manages the invitations of a company: its admin, as the
// database says it now and not the token. A company that does not exist and one
// of others are refused alike.
func (s *Service) admitAdmin(c identity.Credential, company identity.CompanyID, now time.Time) func(identity.Standing) error {
	return func(standing identity.Standing) error {
		if err := s.admit(c, standing, now); err != nil {
			return err
		}
		m, member := standing.In(company)
		switch {
		case !member || m.Role != identity.RoleAdmin:
			return errNotAdmin
		case m.Suspended:
			return problem.CompanySuspended
		}
		return nil
	}
}

// listInvitations is GET /api/v1/companies/{id}/invitations: the open ones.
func (s *Service) listInvitations(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.bearer(x)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	standing, err := s.with.Directory.Standing(ctx, credential.User, credential.Session, x.company)
	if err != nil {
		return answer{}, unanswered(err)
	}
	if err := s.admitAdmin(credential, x.company, s.with.Now())(standing); err != nil {
		return answer{}, err
	}
	open, err := s.with.Invitations.ListInvitations(ctx, identity.InvitationFilter{Company: x.company})
	if err != nil {
		return answer{}, unanswered(err)
	}
	shown := make([]shownInvitation, 0, len(open))
	for _, i := range open {
		shown = append(shown, showInvitation(i))
	}
	return answer{status: http.StatusOK, result: "ok", body: map[string][]shownInvitation{invitations: shown}}, nil
}

// revokeInvitation is DELETE /api/v1/companies/{id}/invitations/{id}.
func (s *Service) revokeInvitation(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.acting(ctx, x)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err = s.with.Invitations.RevokeInvitation(ctx, x.company, x.invitation, identity.Inviter{
		User: credential.User, Session: credential.Session, Admit: s.admitAdmin(credential, x.company, s.with.Now()),
	})
	switch {
	case err == nil:
		return answer{status: http.StatusNoContent, result: "revoked"}, nil
	case errors.Is(err, identity.ErrNotFound): // of a user that is gone the judge has another word
		return answer{}, errInvitationNotFound
	default:
		return answer{}, unadmitted(err)
	}
}
