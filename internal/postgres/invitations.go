package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// secretBytes is the length of an invitation's secret; nobody guesses 256 bits.
const secretBytes = 32

// openSQL is of the invitation i that can be accepted now. clock_timestamp
// because a transaction may have waited for a lock past the end of one.
const openSQL = `i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > clock_timestamp()`

// invitationColumns are read by scanInvitation. An invitation whose end was
// noted (see SweepInvitations) is revoked at that end.
const invitationColumns = `i.id, i.company_id, i.user_id, coalesce(i.email, ''), i.role, i.invited_by, i.created_at, i.expires_at,
	CASE WHEN i.accepted_at IS NOT NULL THEN 'accepted'
	     WHEN i.revoked_at < i.expires_at THEN 'revoked'
	     WHEN i.expires_at <= now() THEN 'expired'
	     WHEN i.revoked_at IS NOT NULL THEN 'revoked'
	     ELSE 'open' END`

func scanInvitation(row pgx.Row) (identity.Invitation, error) {
	var i identity.Invitation
	var id, company, user, by pgtype.UUID
	var created, expires pgtype.Timestamptz
	if err := row.Scan(&id, &company, &user, &i.Email, &i.Role, &by, &created, &expires, &i.State); err != nil {
		return i, err
	}
	i.ID, i.Company, i.User = identity.InvitationID(id.Bytes), identity.CompanyID(company.Bytes), identity.UserID(user.Bytes)
	i.InvitedBy, i.CreatedAt, i.ExpiresAt = identity.UserID(by.Bytes), instant(created), instant(expires)
	return i, nil
}

// Invite makes an invitation. One that is bound to an address comes with a
// secret, which is told here and never again: the database holds its SHA-256.
//
// identity.ErrNotFound: the companies table does not know the company and nobody
// is in it. identity.ErrMember, ErrInvited, ErrManyInvitations and
// ErrCompanySuspended say for themselves; that an address belongs to somebody who
// is no member is told by none of them.
func (s *Store) Invite(ctx context.Context, request identity.InviteRequest) (identity.Invitation, string, error) {
	if !storable(request.Email) || !storable(request.Role) || request.Role == "" {
		return identity.Invitation{}, "", ErrBadText
	}
	if request.User.IsZero() == (request.Email == "") || request.Lifetime <= 0 {
		return identity.Invitation{}, "", errors.New("an invitation is for a time, and for either an account or an address")
	}
	secret, hash, err := newSecret(request.Email != "")
	if err != nil {
		return identity.Invitation{}, "", err
	}
	var made identity.Invitation
	err = s.change(ctx, queryInvite, "inviting somebody", func(tx pgx.Tx) (err error) {
		made, err = (&invite{tx: tx, request: request}).run(ctx, hash)
		return err
	})
	if err != nil {
		return identity.Invitation{}, "", err
	}
	return made, secret, nil
}

// newSecret makes the secret of an invitation and its hash; none: nil.
func newSecret(wanted bool) (secret string, hash []byte, err error) {
	if !wanted {
		return "", nil, nil
	}
	raw := make([]byte, secretBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", nil, fmt.Errorf("making the secret of an invitation: %w", err)
	}
	secret = base64.RawURLEncoding.EncodeToString(raw)
	return secret, secretHash(secret), nil
}

// secretHash is what is kept of a secret. It needs no salt and no cost: what it
// is of was not chosen by a person.
func secretHash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// invite is one transaction of Invite.
type invite struct {
	tx      pgx.Tx
	request identity.InviteRequest
}

func (v *invite) run(ctx context.Context, hash []byte) (identity.Invitation, error) {
	r := v.request
	if err := admitInviter(ctx, v.tx, r.By); err != nil {
		return identity.Invitation{}, err
	}
	if err := v.allowed(ctx); err != nil {
		return identity.Invitation{}, err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return identity.Invitation{}, fmt.Errorf("making the id of an invitation: %w", err)
	}
	made, err := scanInvitation(v.tx.QueryRow(ctx, `
		INSERT INTO company_invitations AS i (id, company_id, user_id, email, token_hash, role, invited_by, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::bigint * interval '1 us') RETURNING `+invitationColumns,
		uuidOrNull(identity.InvitationID(id)), uuidOrNull(r.Company), uuidOrNull(r.User), textOrNull(r.Email), hash, r.Role,
		uuidOrNull(r.By.User), r.Lifetime.Microseconds()))
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == codeUniqueViolation {
		return identity.Invitation{}, refusal{identity.ErrInvited} // plain SQL was faster
	}
	if err != nil {
		return identity.Invitation{}, err
	}
	return made, audit(ctx, v.tx, identity.Event{
		Name: "invitation.created", Actor: r.By.User, Subject: r.User, Company: r.Company,
		Details: map[string]any{"invitation": made.ID.String(), "role": r.Role},
	})
}

// admitInviter judges whoever is not an operator, under the lock of their row.
func admitInviter(ctx context.Context, tx pgx.Tx, by identity.Inviter) error {
	if by.User.IsZero() {
		return nil
	}
	if by.Admit == nil {
		return errors.New("an inviter without a judge")
	}
	_, _, err := lockUser(ctx, tx, by.User, by.Session, by.Admit)
	return err
}

// allowed asks what the company has to say. Those who invite to one company do so
// one after the other, so that its bound holds.
func (v *invite) allowed(ctx context.Context) error {
	r := v.request
	if _, err := v.tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('gatehouse invites to ' || $1::uuid::text, 0))`, uuidOrNull(r.Company)); err != nil {
		return fmt.Errorf("waiting for another invitation: %w", err)
	}
	if err := openCompany(ctx, v.tx, r.Company); err != nil {
		return err
	}
	if _, err := expireInvitations(ctx, v.tx, r.Company); err != nil {
		return err
	}
	var member, invited bool
	var open int
	err := v.tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM users u
		                WHERE (u.id = $2 OR lower(u.email COLLATE "C") = lower($3::text COLLATE "C"))
		                  AND (u.company_id = $1 OR EXISTS (SELECT FROM company_members m WHERE m.user_id = u.id AND m.company_id = $1))),
		       count(*) FILTER (WHERE i.user_id = $2 OR lower(i.email COLLATE "C") = lower($3::text COLLATE "C")) > 0,
		       count(*)
		  FROM company_invitations i WHERE i.company_id = $1 AND i.accepted_at IS NULL AND i.revoked_at IS NULL`,
		uuidOrNull(r.Company), uuidOrNull(r.User), textOrNull(r.Email)).Scan(&member, &invited, &open)
	switch {
	case err != nil:
		return fmt.Errorf("reading the company's invitations: %w", err)
	case member:
		return refusal{identity.ErrMember}
	case invited:
		return refusal{identity.ErrInvited}
	case r.MostOpen > 0 && open >= r.MostOpen:
		return refusal{identity.ErrManyInvitations}
	}
	return nil
}

// openCompany finds that the company exists and is not suspended, and keeps it so
// to the end of the transaction.
func openCompany(ctx context.Context, tx pgx.Tx, company identity.CompanyID) error {
	rows, err := tx.Query(ctx, `SELECT coalesce(is_active = false, false) FROM companies WHERE id = $1 FOR SHARE`, uuidOrNull(company))
	if err != nil {
		return fmt.Errorf("reading the company: %w", err)
	}
	suspended, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil {
		return fmt.Errorf("reading the company: %w", err)
	}
	for _, yes := range suspended {
		if yes {
			return refusal{identity.ErrCompanySuspended}
		}
	}
	if len(suspended) > 0 {
		return nil
	}
	var belongs bool
	if err := tx.QueryRow(ctx, `SELECT `+belongsSQL, uuidOrNull(company)).Scan(&belongs); err != nil {
		return fmt.Errorf("reading the company: %w", err)
	}
	if !belongs {
		return refusal{identity.ErrNotFound}
	}
	return nil
}

// MostInvitations bounds what ListInvitations returns.
const MostInvitations = 1000

// ListInvitations gives the newest invitations that fit, newest first.
func (s *Store) ListInvitations(ctx context.Context, f identity.InvitationFilter) ([]identity.Invitation, error) {
	var found []identity.Invitation
	err := s.read(ctx, queryListInvitations, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `SELECT `+invitationColumns+` FROM company_invitations i
			 WHERE ($1::uuid IS NULL OR i.company_id = $1)
			   AND ($2::uuid IS NULL OR i.user_id = $2
			        OR lower(i.email COLLATE "C") = (SELECT lower(u.email COLLATE "C") FROM users u WHERE u.id = $2))
			   AND ($3 OR `+openSQL+`)
			 ORDER BY i.created_at DESC, i.id LIMIT $4`, uuidOrNull(f.Company), uuidOrNull(f.User), f.All, MostInvitations)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (identity.Invitation, error) { return scanInvitation(row) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing invitations: %w", err)
	}
	return found, nil
}

// RevokeInvitation takes an open invitation back (of that company; zero: of any).
// identity.ErrNotFound: there is none, or it is not open.
func (s *Store) RevokeInvitation(ctx context.Context, company identity.CompanyID, id identity.InvitationID, by identity.Inviter) (identity.Invitation, error) {
	var revoked identity.Invitation
	err := s.change(ctx, queryRevokeInvitation, "revoking an invitation", func(tx pgx.Tx) error {
		if err := admitInviter(ctx, tx, by); err != nil {
			return err
		}
		var err error
		revoked, err = scanInvitation(tx.QueryRow(ctx, `
			UPDATE company_invitations i SET revoked_at = clock_timestamp()
			 WHERE i.id = $2 AND ($1::uuid IS NULL OR i.company_id = $1) AND `+openSQL+` RETURNING `+invitationColumns,
			uuidOrNull(company), uuidOrNull(id)))
		if errors.Is(err, pgx.ErrNoRows) {
			return refusal{identity.ErrNotFound}
		}
		if err != nil {
			return err
		}
		return audit(ctx, tx, identity.Event{
			Name: "invitation.revoked", Actor: by.User, Subject: revoked.User, Company: revoked.Company,
			Details: map[string]any{"invitation": id.String()},
		})
	})
	return revoked, err
}

// DeclineInvitations gives back invitations that a user holds, and says how many
// those were.
func (s *Store) DeclineInvitations(ctx context.Context, request identity.DeclineRequest) (int, error) {
	if request.Admit == nil {
		return 0, errors.New("a refusal of invitations without a judge")
	}
	var hash []byte
	if request.Token != "" {
		hash = secretHash(request.Token)
	}
	declined := 0
	err := s.change(ctx, queryDecline, "declining invitations", func(tx pgx.Tx) error {
		if _, _, err := lockUser(ctx, tx, request.User, request.Session, request.Admit); err != nil {
			return err
		}
		// With a secret, the one invitation that it is of; it does its part for an
		// address that is not verified.
		rows, err := tx.Query(ctx, `
			UPDATE company_invitations i SET revoked_at = clock_timestamp() FROM users u
			 WHERE u.id = $1 AND ($2::uuid IS NULL OR i.company_id = $2) AND `+openSQL+`
			   AND ($3::bytea IS NULL OR i.token_hash = $3)
			   AND (i.user_id = u.id
			        OR (lower(i.email COLLATE "C") = lower(u.email COLLATE "C")
			            AND (i.token_hash = $3 OR u.email_verified_at IS NOT NULL)))
			RETURNING `+invitationColumns, uuidOrNull(request.User), uuidOrNull(request.Company), hash)
		if err != nil {
			return err
		}
		given, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (identity.Invitation, error) { return scanInvitation(row) })
		if err != nil {
			return err
		}
		declined = len(given)
		for _, i := range given {
			if err := audit(ctx, tx, identity.Event{
				Name: "invitation.declined", Actor: request.User, Subject: request.User, Company: i.Company,
				Details: map[string]any{"invitation": i.ID.String()},
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return declined, err
}

// SweepInvitations notes the end of invitations that nobody accepted in time, a
// bounded number at once, and says how many.
func (s *Store) SweepInvitations(ctx context.Context) (int, error) {
	swept := 0
	err := s.write(ctx, querySweepInvitations, func(ctx context.Context) (err error) {
		swept, err = expireInvitations(ctx, s.pool, identity.CompanyID{})
		return err
	})
	return swept, err
}

// expireInvitations closes what is past its time (of that company; zero: of any)
// and records it, so that the same person can be invited again.
func expireInvitations(ctx context.Context, db querier, company identity.CompanyID) (int, error) {
	var expired int
	err := db.QueryRow(ctx, `
		WITH due AS (
		  SELECT id FROM company_invitations
		   WHERE accepted_at IS NULL AND revoked_at IS NULL AND expires_at <= now() AND ($1::uuid IS NULL OR company_id = $1)
		   LIMIT $2 FOR UPDATE SKIP LOCKED),
		closed AS (
		  UPDATE company_invitations i SET revoked_at = i.expires_at FROM due WHERE i.id = due.id
		  RETURNING i.id, i.company_id, i.user_id),
		recorded AS (
		  INSERT INTO audit_log (event, outcome, subject_user, company_id, details)
		  SELECT 'invitation.expired', 'success', user_id, company_id, jsonb_build_object('invitation', id) FROM closed)
		SELECT count(*) FROM closed`, uuidOrNull(company), SweepLimit).Scan(&expired)
	if err != nil {
		return 0, fmt.Errorf("closing invitations that are past their time: %w", err)
	}
	return expired, nil
}
