package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
)

// RemoveMember takes a user out of a company in one transaction: the membership
// goes; where the company was the user's current one the user has none any more,
// and with it no role; and open invitations that would bring the user back are
// revoked, those that the user made for others there included. identity.ErrNotFound:
// there is no such user, or nothing to take away.
//
// Tokens and sessions stay: a token for the company is refused by what is left,
// and the user may go on in another.
func (s *Store) RemoveMember(ctx context.Context, request identity.RemoveRequest) (identity.Removal, error) {
	var did identity.Removal
	err := s.change(ctx, queryRemoveMember, "removing somebody from a company", func(tx pgx.Tx) error {
		user, _, err := lockUser(ctx, tx, request.User, identity.SessionID{}, nil)
		if err != nil {
			return err
		}
		id, company := uuidOrNull(request.User), uuidOrNull(request.Company)
		did = identity.Removal{Current: !request.Company.IsZero() && user.Company == request.Company}
		tag, err := tx.Exec(ctx, `DELETE FROM company_members WHERE user_id = $1 AND company_id = $2`, id, company)
		if err != nil {
			return err
		}
		did.Member = did.Current || tag.RowsAffected() > 0
		if did.Current {
			if _, err := tx.Exec(ctx, `UPDATE users SET company_id = NULL, role = $2, updated_at = now() WHERE id = $1`, id, defaultRole); err != nil {
				return err
			}
		}
		tag, err = tx.Exec(ctx, `
			UPDATE company_invitations i SET revoked_at = clock_timestamp() FROM users u
			 WHERE u.id = $1 AND i.company_id = $2 AND `+openSQL+`
			   AND (i.user_id = u.id OR i.invited_by = u.id OR lower(i.email COLLATE "C") = lower(u.email COLLATE "C"))`, id, company)
		if err != nil {
			return err
		}
		did.Invitations = int(tag.RowsAffected())
		if !did.Member && did.Invitations == 0 {
			return refusal{identity.ErrNotFound}
		}
		return audit(ctx, tx, identity.Event{
			Name: "company.removed", Subject: request.User, Company: request.Company,
			Details: map[string]any{"was_member": did.Member, "was_current": did.Current, "invitations_revoked": did.Invitations},
		})
	})
	return did, err
}
