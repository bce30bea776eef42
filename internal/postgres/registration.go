package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// CompanyByName finds the one company of this name. identity.ErrNotFound: there is
// none, or more than one.
func (s *Store) CompanyByName(ctx context.Context, name string) (identity.CompanyID, error) {
	if !storable(name) {
		return identity.CompanyID{}, identity.ErrNotFound
	}
	var found []pgtype.UUID
	err := s.read(ctx, queryCompanyByName, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `SELECT id FROM companies WHERE name::text = $1::text AND id IS NOT NULL LIMIT 2`, name)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowTo[pgtype.UUID])
		return err
	})
	switch {
	case err != nil:
		return identity.CompanyID{}, fmt.Errorf("looking for a company by name: %w", err)
	case len(found) == 0:
		return identity.CompanyID{}, identity.ErrNotFound
	case len(found) > 1:
		return identity.CompanyID{}, fmt.Errorf("more than one company has this name: %w", identity.ErrNotFound)
	}
	return identity.CompanyID(found[0].Bytes), nil
}

// RegisterUser makes an active user of no more rights than anybody has. The company
// is the operator's choice and needs no row of its own (contract section 10).
// identity.ErrEmailTaken: somebody has the address.
//
// With the secret of an invitation to the address, the user comes into that company
// with the role that it gives, and the invitation is used up, or neither.
// identity.ErrJoinRefused: there is no such invitation that is open, or its company is
// suspended; it is said before anybody looks whether the address is taken. That the
// secret is known proves nothing about who reads the mail of the address: whoever
// invites is told it, and hands it on by any way.
func (s *Store) RegisterUser(ctx context.Context, account identity.Account, invitation string) (identity.UserID, error) {
	if !storable(account.Email) || !storable(account.FullName) || !storable(account.PasswordHash) {
		return identity.UserID{}, ErrBadText
	}
	made, err := uuid.NewRandom()
	if err != nil {
		return identity.UserID{}, fmt.Errorf("making a user id: %w", err)
	}
	id := identity.UserID(made)
	err = s.change(ctx, queryRegisterUser, "registering a user", func(tx pgx.Tx) (err error) {
		in := admission{company: account.Company, role: defaultRole}
		if invitation != "" {
			if in, err = redeem(ctx, tx, invitation, account.Email, id); err != nil {
				return err
			}
		}
		// Every column is set: an adopted table may have no defaults.
		if _, err := tx.Exec(ctx, `
			INSERT INTO users (id, company_id, email, hashed_password, full_name, role, is_active, created_at, updated_at)
			VALUES ($1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::text, true, now(), now())`,
			uuidOrNull(id), uuidOrNull(in.company), account.Email, textOrNull(account.PasswordHash),
			textOrNull(account.FullName), in.role); err != nil {
			return err
		}
		who := identity.Event{Name: "user.registered", Actor: id, Subject: id, Company: in.company}
		if err := audit(ctx, tx, who); err != nil || invitation == "" {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO company_members (user_id, company_id, role) VALUES ($1, $2, $3)`,
			uuidOrNull(id), uuidOrNull(in.company), in.role); err != nil {
			return fmt.Errorf("adding the membership: %w", err)
		}
		who.Name, who.Details = "company.joined", map[string]any{"role": in.role, "how": "invitation"}
		return audit(ctx, tx, who)
	})
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == codeUniqueViolation && s.emailExists(ctx, account.Email):
		return identity.UserID{}, identity.ErrEmailTaken
	case errors.Is(err, errRedeemed):
		// Whoever has lost the answer and asks again is told what everybody is told of
		// an address that is taken.
		if s.emailExists(ctx, account.Email) {
			return identity.UserID{}, identity.ErrEmailTaken
		}
		return identity.UserID{}, identity.ErrJoinRefused
	case err != nil:
		return identity.UserID{}, err
	}
	return id, nil
}

// RedeemInvitation uses up an invitation to an address while somebody else makes the
// user, and records both: it stays locked meanwhile, and open if no user is made or this process dies.
// The error of made is returned as it is. identity.ErrJoinRefused: there is no such
// invitation, and made was not called; identity.ErrEmailTaken: it was used already.
//
// Two that come with one secret wait for each other no longer than for any row.
func (s *Store) RedeemInvitation(ctx context.Context, secret, email string,
	made func(ctx context.Context, company identity.CompanyID, role string) (identity.UserID, error),
) error {
	if !storable(email) {
		return ErrBadText
	}
	err := s.change(ctx, queryRedeem, "redeeming an invitation", func(tx pgx.Tx) error {
		in, err := redeem(ctx, tx, secret, email, identity.UserID{})
		if err != nil {
			return err
		}
		user, err := made(ctx, in.company, in.role)
		if err != nil {
			return refusal{err}
		}
		_, err = tx.Exec(ctx, `UPDATE company_invitations SET accepted_by = $2 WHERE id = $1`, uuidOrNull(in.invitation), uuidOrNull(user))
		if err != nil {
			return fmt.Errorf("noting who was invited: %w", err)
		}
		if err := auditRedeemed(ctx, tx, in, user); err != nil {
			return err
		}
		return audit(ctx, tx, identity.Event{
			Name: "user.registered", Actor: user, Subject: user, Company: in.company, Details: map[string]any{"role": in.role, "how": "invitation"},
		})
	})
	if errors.Is(err, errRedeemed) {
		return identity.ErrEmailTaken
	}
	return err
}

// errRedeemed: the invitation was to this address and has been accepted.
var errRedeemed = errors.New("the invitation was used")

// admission is where somebody comes in, and by which invitation; zero: by none.
type admission struct {
	invitation identity.InvitationID
	company    identity.CompanyID
	role       string
}

// redeem uses up the invitation of a secret to an address, for somebody who has no
// row yet (zero: who has no id yet, and it is the caller's to record it). Whatever is
// wrong with it is one refusal, but for one that was accepted already.
func redeem(ctx context.Context, tx pgx.Tx, secret, email string, user identity.UserID) (admission, error) {
	const meant = `i.token_hash = $1 AND lower(i.email COLLATE "C") = lower($2::text COLLATE "C")`
	var id, company pgtype.UUID
	var in admission
	err := tx.QueryRow(ctx, `
		UPDATE company_invitations i SET accepted_at = clock_timestamp(), accepted_by = $3
		 WHERE `+meant+` AND `+openSQL+`
		   AND NOT EXISTS (SELECT FROM companies c WHERE c.id = i.company_id AND c.is_active = false)
		RETURNING i.id, i.company_id, i.role`, secretHash(secret), email, uuidOrNull(user)).Scan(&id, &company, &in.role)
	if errors.Is(err, pgx.ErrNoRows) {
		var accepted bool
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM company_invitations i WHERE `+meant+` AND i.accepted_at IS NOT NULL)`,
			secretHash(secret), email).Scan(&accepted)
		switch {
		case err != nil:
			return in, fmt.Errorf("reading the invitation: %w", err)
		case accepted:
			return in, refusal{errRedeemed}
		default:
			return in, refusal{identity.ErrJoinRefused}
		}
	}
	if err != nil {
		return in, fmt.Errorf("accepting the invitation: %w", err)
	}
	in.invitation, in.company = identity.InvitationID(id.Bytes), identity.CompanyID(company.Bytes)
	if user.IsZero() {
		return in, nil
	}
	return in, auditRedeemed(ctx, tx, in, user)
}

func auditRedeemed(ctx context.Context, tx pgx.Tx, in admission, user identity.UserID) error {
	return audit(ctx, tx, identity.Event{
		Name: "invitation.accepted", Actor: user, Subject: user, Company: in.company,
		Details: map[string]any{"invitation": in.invitation.String()},
	})
}
