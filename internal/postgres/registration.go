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
func (s *Store) RegisterUser(ctx context.Context, account identity.Account) (identity.UserID, error) {
	if !storable(account.Email) || !storable(account.FullName) || !storable(account.PasswordHash) {
		return identity.UserID{}, ErrBadText
	}
	made, err := uuid.NewRandom()
	if err != nil {
		return identity.UserID{}, fmt.Errorf("making a user id: %w", err)
	}
	id := identity.UserID(made)
	err = s.change(ctx, queryRegisterUser, "registering a user", func(tx pgx.Tx) error {
		// Every column is set: an adopted table may have no defaults.
		if _, err := tx.Exec(ctx, `
			INSERT INTO users (id, company_id, email, hashed_password, full_name, role, is_active, created_at, updated_at)
			VALUES ($1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::text, true, now(), now())`,
			uuidOrNull(id), uuidOrNull(account.Company), account.Email, textOrNull(account.PasswordHash),
			textOrNull(account.FullName), defaultRole); err != nil {
			return err
		}
		return audit(ctx, tx, identity.Event{Name: "user.registered", Actor: id, Subject: id, Company: account.Company})
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == codeUniqueViolation && s.emailExists(ctx, account.Email) {
		return identity.UserID{}, identity.ErrEmailTaken
	}
	if err != nil {
		return identity.UserID{}, err
	}
	return id, nil
}
