package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// Join makes a company the user's current one, in one transaction under the lock
// of the user's row: what admits the user, what allows the company and what is
// written cannot be pulled apart by another join, a disabling or plain SQL.
//
// The company is the one asked for; else that of the invitation token; else the
// default one if the user has none; else the current one; else
// identity.ErrNoCompany. It is allowed if it is the current one (nothing is
// written then), if the user is a member, holds an open invitation, or may take
// the default one (no company and no membership), and under AnyCompany if the
// companies table knows it (else identity.ErrUnknownCompany). Everything else is
// identity.ErrJoinRefused, and so is, whatever the rules say, a suspended
// company that is not the current one, and an invitation token that is not this
// user's: a token is an explicit wish, and falling back to another company would
// grant something that nobody asked for.
//
// A company that is left stays as a membership with the role held there. An
// invitation is used once; it gives its role only to someone who is not a
// member yet, so an old one can neither raise nor lower anybody.
func (s *Store) Join(ctx context.Context, request identity.JoinRequest) (identity.JoinResult, error) {
	if request.Admit == nil {
		return identity.JoinResult{}, errors.New("a join without a judge")
	}
	var result identity.JoinResult
	var denied error
	err := s.change(ctx, queryJoin, "joining a company", func(tx pgx.Tx) (err error) {
		j := &join{tx: tx, request: request}
		result, err = j.run(ctx)
		if errors.Is(err, identity.ErrJoinRefused) || errors.Is(err, identity.ErrUnknownCompany) {
			// Nothing was written but the record of it.
			denied = err
			return audit(ctx, tx, identity.Event{
				Name: "company.denied", Outcome: identity.Denied, Actor: request.User, Subject: request.User,
				Company: j.wanted(), Session: request.Session,
			})
		}
		return err
	})
	var refused refusal
	switch {
	case err != nil:
		return identity.JoinResult{}, err
	case errors.As(denied, &refused):
		return identity.JoinResult{}, refused.error
	}
	return result, nil
}

// join is one transaction of Join.
type join struct {
	tx       pgx.Tx
	request  identity.JoinRequest
	user     identity.User
	standing identity.Standing
	invited  invitation // that the token names; zero: no token
	how      string     // why the target was allowed, for the record
}

type invitation struct {
	company   identity.CompanyID
	tokenHash []byte
}

// wanted is the company that a refusal was about; zero: a token told none.
func (j *join) wanted() identity.CompanyID {
	switch {
	case !j.request.Want.IsZero():
		return j.request.Want
	case !j.invited.company.IsZero():
		return j.invited.company
	case j.request.InvitationToken == "":
		return j.request.Default
	default:
		return identity.CompanyID{}
	}
}

func (j *join) run(ctx context.Context) (identity.JoinResult, error) {
	var err error
	j.user, j.standing, err = lockUser(ctx, j.tx, j.request.User, j.request.Session, j.request.Admit)
	if err != nil {
		return identity.JoinResult{}, err
	}
	target, err := j.target(ctx)
	if err != nil {
		return identity.JoinResult{}, err
	}
	if target == j.user.Company {
		return identity.JoinResult{User: j.user, Session: j.standing.Session}, nil
	}
	role, err := j.enter(ctx, target)
	if err != nil {
		return identity.JoinResult{}, err
	}
	left := j.user.Company
	if err := j.move(ctx, target, role); err != nil {
		return identity.JoinResult{}, err
	}
	details := map[string]any{"role": role, "how": j.how}
	if !left.IsZero() {
		details["left"] = left.String()
	}
	if err := audit(ctx, j.tx, identity.Event{
		Name: "company.joined", Actor: j.request.User, Subject: j.request.User, Company: target, Session: j.request.Session, Details: details,
	}); err != nil {
		return identity.JoinResult{}, err
	}
	return identity.JoinResult{User: j.user, Session: j.standing.Session, Changed: true}, nil
}

// target finds the company that is meant, and the invitation that the token names.
func (j *join) target(ctx context.Context) (identity.CompanyID, error) {
	if j.request.InvitationToken != "" {
		if err := j.invitation(ctx); err != nil {
			return identity.CompanyID{}, err
		}
	}
	switch {
	case !j.request.Want.IsZero():
		return j.request.Want, nil
	case !j.invited.company.IsZero():
		return j.invited.company, nil
	case !j.user.Company.IsZero():
		return j.user.Company, nil
	case !j.request.Default.IsZero():
		return j.request.Default, nil
	default:
		return identity.CompanyID{}, refusal{identity.ErrNoCompany}
	}
}

// invitation reads the company of the token's invitation, whatever its state: a
// client that repeats an accepted one, its answer lost, is confirmed. A token of
// somebody else's invitation is refused before it could tell its company.
func (j *join) invitation(ctx context.Context) error {
	hash := secretHash(j.request.InvitationToken)
	var company pgtype.UUID
	err := j.tx.QueryRow(ctx, `
		SELECT i.company_id FROM company_invitations i JOIN users u ON u.id = $1
		 WHERE i.token_hash = $2
		   AND (i.user_id = u.id OR lower(i.email COLLATE "C") = lower(u.email COLLATE "C"))`,
		uuidOrNull(j.request.User), hash).Scan(&company)
	if errors.Is(err, pgx.ErrNoRows) {
		return refusal{identity.ErrJoinRefused}
	}
	if err != nil {
		return fmt.Errorf("reading the invitation: %w", err)
	}
	j.invited = invitation{company: identity.CompanyID(company.Bytes), tokenHash: hash}
	return nil
}

// enter decides whether the target is allowed, uses up invitations to it, and
// returns the role that the user has there.
func (j *join) enter(ctx context.Context, target identity.CompanyID) (string, error) {
	id, company := uuidOrNull(j.request.User), uuidOrNull(target)
	var known, suspended bool
	err := j.tx.QueryRow(ctx, `SELECT count(*) > 0, coalesce(bool_or(is_active = false), false) FROM companies WHERE id = $1`,
		company).Scan(&known, &suspended)
	if err != nil {
		return "", fmt.Errorf("reading the company: %w", err)
	}
	if suspended {
		return "", refusal{identity.ErrJoinRefused}
	}

	var memberRole string
	err = j.tx.QueryRow(ctx, `SELECT role FROM company_members WHERE user_id = $1 AND company_id = $2 FOR UPDATE`,
		id, company).Scan(&memberRole)
	member := err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("reading the membership: %w", err)
	}
	invitedRole, invited, err := j.accept(ctx, target)
	if err != nil {
		return "", err
	}
	newcomer := j.user.Company.IsZero() && len(j.standing.Memberships) == 0
	switch {
	case member:
		j.how = "membership"
		return memberRole, nil
	case invited:
		j.how = "invitation"
		return invitedRole, nil
	case target == j.request.Default && (newcomer || j.request.AnyCompany):
		j.how = "default"
		return defaultRole, nil // it needs no row in companies
	case j.request.AnyCompany && known:
		j.how = "any"
		return defaultRole, nil
	case j.request.AnyCompany:
		return "", refusal{identity.ErrUnknownCompany}
	default:
		return "", refusal{identity.ErrJoinRefused}
	}
}

// accept uses up every open invitation to the company that admits this user; of
// two that do the same at once, the second finds none. clock_timestamp because
// the transaction may have waited for its lock past an invitation's end.
func (j *join) accept(ctx context.Context, target identity.CompanyID) (role string, accepted bool, err error) {
	rows, err := j.tx.Query(ctx, `
		WITH used AS (
		  UPDATE company_invitations i SET accepted_at = clock_timestamp(), accepted_by = u.id
		    FROM users u
		   WHERE u.id = $1 AND i.company_id = $2
		     AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > clock_timestamp()
		     AND (i.user_id = u.id
		          OR (lower(i.email COLLATE "C") = lower(u.email COLLATE "C")
		              AND (i.token_hash = $3 OR u.email_verified_at IS NOT NULL)))
		  RETURNING i.role, i.token_hash = $3 AS presented, i.created_at, i.id),
		recorded AS (
		  INSERT INTO audit_log (event, outcome, actor_user, subject_user, company_id, session_id, ip, request_id, details)
		  SELECT 'invitation.accepted', 'success', $1, $1, $2, $4, $5, $6, jsonb_build_object('invitation', id) FROM used)
		SELECT role FROM used ORDER BY presented DESC NULLS LAST, created_at DESC, id LIMIT 1`,
		uuidOrNull(j.request.User), uuidOrNull(target), j.invited.tokenHash, uuidOrNull(j.request.Session),
		addressOrNull(identity.OriginOf(ctx).Address), plainOrNull(identity.OriginOf(ctx).RequestID))
	if err != nil {
		return "", false, fmt.Errorf("accepting the invitation: %w", err)
	}
	role, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("accepting the invitation: %w", err)
	}
	return role, true, nil
}

// move writes the new current company, and keeps the old one as a membership.
func (j *join) move(ctx context.Context, target identity.CompanyID, role string) error {
	id, oldRole := uuidOrNull(j.request.User), j.user.Role
	if oldRole == "" {
		oldRole = defaultRole // a membership's role is never NULL
	}
	if _, err := j.tx.Exec(ctx, `SELECT set_config('gatehouse.keep_members', 'on', true)`); err != nil {
		return fmt.Errorf("keeping the old company: %w", err)
	}
	const upsert = `INSERT INTO company_members (user_id, company_id, role) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, company_id) DO UPDATE SET role = excluded.role`
	if !j.user.Company.IsZero() {
		if _, err := j.tx.Exec(ctx, upsert, id, uuidOrNull(j.user.Company), oldRole); err != nil {
			return fmt.Errorf("keeping the old company: %w", err)
		}
	}
	if _, err := j.tx.Exec(ctx, upsert, id, uuidOrNull(target), role); err != nil {
		return fmt.Errorf("adding the membership: %w", err)
	}
	var err error
	j.user, err = scanUser(j.tx.QueryRow(ctx, `
		UPDATE users AS u SET company_id = $2, role = $3, updated_at = now() WHERE u.id = $1 RETURNING `+userColumns,
		id, uuidOrNull(target), role))
	if err != nil {
		return fmt.Errorf("moving the user: %w", err)
	}
	return nil
}
