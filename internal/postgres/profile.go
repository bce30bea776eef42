package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// AccountByID finds a user by its id. identity.ErrNotFound: there is none.
func (s *Store) AccountByID(ctx context.Context, user identity.UserID) (identity.Account, error) {
	var found identity.Account
	err := s.read(ctx, queryAccountByID, func(ctx context.Context) (err error) {
		found.User, err = scanUser(s.pool.QueryRow(ctx,
			`SELECT `+userColumns+`, coalesce(u.hashed_password::text, '') FROM users u WHERE u.id = $1`, uuidOrNull(user)),
			&found.PasswordHash)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.Account{}, identity.ErrNotFound
	}
	if err != nil {
		return identity.Account{}, fmt.Errorf("reading an account by id: %w", err)
	}
	return found, nil
}

// Profile reads a user with its companies and one of its sessions (zero: none is
// asked about), as of one moment. A user that does not exist is the zero Profile
// and no error.
func (s *Store) Profile(ctx context.Context, user identity.UserID, session identity.SessionID) (identity.Profile, error) {
	var found identity.Profile
	err := s.read(ctx, queryProfile, func(ctx context.Context) error {
		// One snapshot for all three questions.
		one := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		return pgx.BeginTxFunc(ctx, s.pool, one, func(tx pgx.Tx) (err error) {
			found = identity.Profile{}
			if found.Standing, err = standing(ctx, tx, user, session, identity.CompanyID{}); err != nil || !found.Standing.Exists {
				return err
			}
			found.User, err = scanUser(tx.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE u.id = $1`, uuidOrNull(user)))
			if err != nil {
				return err
			}
			found.CompanyNames, err = companyNames(ctx, tx, found.Standing.Memberships)
			return err
		})
	})
	if err != nil {
		return identity.Profile{}, fmt.Errorf("reading the profile of a user: %w", err)
	}
	return found, nil
}

func companyNames(ctx context.Context, tx pgx.Tx, of []identity.Membership) (map[identity.CompanyID]string, error) {
	if len(of) == 0 {
		return nil, nil
	}
	ids := make([]pgtype.UUID, 0, len(of))
	for _, m := range of {
		ids = append(ids, uuidOrNull(m.Company))
	}
	rows, err := tx.Query(ctx, `SELECT id, name::text FROM companies WHERE id = ANY($1::uuid[]) AND name <> '' ORDER BY created_at DESC`, ids)
	if err != nil {
		return nil, err
	}
	names := make(map[identity.CompanyID]string, len(of))
	var id pgtype.UUID
	var name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		names[identity.CompanyID(id.Bytes)] = name
		return nil
	})
	return names, err
}
