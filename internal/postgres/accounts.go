package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
)

// accountByEmailSQL spells the folding exactly as users_email_fold_key does;
// spelt otherwise it would not use the index, or would fold other letters.
const accountByEmailSQL = `SELECT ` + userColumns + `, coalesce(u.hashed_password::text, '')
  FROM users u WHERE lower(u.email COLLATE "C") = lower($1::text COLLATE "C")`

// AccountByEmail finds a user by its address, without regard to the case of
// ASCII letters. identity.ErrNotFound: there is none.
func (s *Store) AccountByEmail(ctx context.Context, email string) (identity.Account, error) {
	if !storable(email) {
		return identity.Account{}, identity.ErrNotFound
	}
	var found identity.Account
	err := s.read(ctx, queryAccountByEmail, func(ctx context.Context) (err error) {
		found.User, err = scanUser(s.pool.QueryRow(ctx, accountByEmailSQL, email), &found.PasswordHash)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.Account{}, identity.ErrNotFound
	}
	if err != nil {
		return identity.Account{}, fmt.Errorf("reading an account by email: %w", err)
	}
	return found, nil
}

// ReplacePasswordHash puts a better hash of the same password in the place of
// the old one. It reports false, and changes nothing, if the hash is no longer
// the old one: then somebody set another password meanwhile. The password is not
// changed by this, and so password_changed_at and updated_at are not either.
func (s *Store) ReplacePasswordHash(ctx context.Context, user identity.UserID, oldHash, newHash string) (bool, error) {
	if !storable(oldHash) || !storable(newHash) || newHash == "" {
		return false, ErrBadText
	}
	replaced := false
	err := s.change(ctx, queryReplaceHash, "replacing a password hash", func(tx pgx.Tx) error {
		from := identity.OriginOf(ctx)
		tag, err := tx.Exec(ctx, `
			WITH u AS (UPDATE users SET hashed_password = $3 WHERE id = $1 AND hashed_password = $2 RETURNING id)
			INSERT INTO audit_log (event, outcome, actor_user, subject_user, ip, request_id)
			SELECT 'password.upgraded', 'success', id, id, $4, $5 FROM u`,
			uuidOrNull(user), oldHash, newHash, addressOrNull(from.Address), plainOrNull(from.RequestID))
		replaced = tag.RowsAffected() == 1
		return err
	})
	return replaced, err
}
