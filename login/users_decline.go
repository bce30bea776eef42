package login

import (
	"context"
	"errors"
	"net/http"

	"github.com/atenex/gatehouse/internal/identity"
)

// errNothingHeld ends a transaction that has nothing to do.
var errNothingHeld = errors.New("no invitation can be meant")

// declineInvitations is POST /api/v1/users/me/invitations/decline. The body is
// that of ensure-company and names what would be joined by it; nothing named is
// every invitation that the user could accept without a secret.
//
// It is the same 204 whether or not there was something to decline, so that it
// may be repeated and tells nothing of a secret.
func (s *Service) declineInvitations(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.bearer(x)
	if err != nil {
		return answer{}, err
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	what, err := readWish(body)
	if err != nil {
		return answer{}, err
	}
	if err := s.spendOfUser(ctx, credential.User); err != nil {
		return answer{}, err
	}
	now := s.with.Now()
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err = s.with.Invitations.DeclineInvitations(ctx, identity.DeclineRequest{
		User:    credential.User,
		Session: credential.Session,
		Company: what.company,
		Token:   what.invitation,
		Admit: func(standing identity.Standing) error {
			if err := s.admit(credential, standing, now); err != nil || !what.nobodys {
				return err
			}
			return errNothingHeld // the nil UUID would read as every company
		},
	})
	if err != nil && !errors.Is(err, errNothingHeld) {
		return answer{}, unadmitted(err)
	}
	return answer{status: http.StatusNoContent, result: "declined"}, nil
}
