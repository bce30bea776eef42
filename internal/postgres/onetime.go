package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// relatesSQL is what a token for the purpose $1 is about, of the user u. A token is
// void once that has changed, by whomever and however.
const relatesSQL = `encode(sha256(convert_to(u.email::text || CASE WHEN $1::text = 'password_reset'
	THEN chr(10) || coalesce(u.hashed_password::text, '') ELSE '' END, 'UTF8')), 'hex')`

// makeOneTimeSQL is one statement, so that whoever asks twice at once is left with one
// live token. Whoever has a verified address need not verify it.
const makeOneTimeSQL = `
WITH u AS (
  SELECT u.id, u.email::text AS email, ` + relatesSQL + ` AS relates FROM users u
   WHERE %s AND u.is_active IS TRUE AND u.email IS NOT NULL
     AND ($1::text <> 'email_verify' OR u.email_verified_at IS NULL)),
made AS (
  INSERT INTO one_time_tokens (token_hash, user_id, purpose, relates_to, created_at, expires_at)
  SELECT $3::bytea, u.id, $1::text, u.relates, clock_timestamp(), clock_timestamp() + $4::bigint * interval '1 us' FROM u
  ON CONFLICT (user_id, purpose) WHERE used_at IS NULL DO UPDATE SET
    token_hash = excluded.token_hash, relates_to = excluded.relates_to,
    created_at = excluded.created_at, expires_at = excluded.expires_at
  RETURNING user_id)
SELECT u.id, u.email FROM u JOIN made ON made.user_id = u.id`

// MakeOneTime makes a token and voids the one before it. The secret is told here and
// never again: the database holds its SHA-256. identity.ErrNotFound: there is nobody to
// send it to, or no need.
func (s *Store) MakeOneTime(ctx context.Context, request identity.OneTimeRequest) (identity.OneTimeToken, error) {
	if !storable(request.Email) {
		return identity.OneTimeToken{}, identity.ErrNotFound
	}
	if request.User.IsZero() == (request.Email == "") || request.Lifetime <= 0 {
		return identity.OneTimeToken{}, errors.New("a one-time token is for a time, and for either a user or an address")
	}
	secret, hash, err := newSecret(true)
	if err != nil {
		return identity.OneTimeToken{}, err
	}
	made := identity.OneTimeToken{Secret: secret}
	// Two statements, each of which reads an index.
	sql, who := fmt.Sprintf(makeOneTimeSQL, `u.id = $2::uuid`), any(uuidOrNull(request.User))
	if request.User.IsZero() {
		sql, who = fmt.Sprintf(makeOneTimeSQL, `lower(u.email COLLATE "C") = lower($2::text COLLATE "C")`), request.Email
	}
	err = s.write(ctx, queryMakeOneTime, func(ctx context.Context) error {
		var user pgtype.UUID
		err := s.pool.QueryRow(ctx, sql, string(request.Purpose), who,
			hash, request.Lifetime.Microseconds()).Scan(&user, &made.Email)
		made.User = identity.UserID(user.Bytes)
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return identity.OneTimeToken{}, identity.ErrNotFound
	case err != nil:
		return identity.OneTimeToken{}, fmt.Errorf("making a one-time token: %w", err)
	}
	return made, nil
}

// goodSQL is of a token t for the purpose $1 and the secret's hash $2 that user u may
// use now. clock_timestamp because a transaction may have waited for a lock.
const goodSQL = `t.user_id = u.id AND t.purpose = $1::text AND t.token_hash = $2::bytea AND t.used_at IS NULL
	AND t.expires_at > clock_timestamp() AND u.is_active IS TRUE AND t.relates_to = ` + relatesSQL

// OneTimeUser is whose a good token is. It uses nothing up. identity.ErrOneTimeRefused:
// the token is not good.
func (s *Store) OneTimeUser(ctx context.Context, purpose identity.OneTimePurpose, secret string) (identity.User, error) {
	var user identity.User
	err := s.read(ctx, queryOneTimeUser, func(ctx context.Context) (err error) {
		user, err = scanUser(s.pool.QueryRow(ctx, `SELECT `+userColumns+` FROM users u, one_time_tokens t WHERE `+goodSQL,
			string(purpose), secretHash(secret)))
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return identity.User{}, identity.ErrOneTimeRefused
	case err != nil:
		return identity.User{}, fmt.Errorf("reading a one-time token: %w", err)
	}
	return user, nil
}

// ResetPassword uses a token up and stores a new password: every login of the user
// ends, all tokens without a session end, and failures to log in are forgotten. It says
// how many sessions ended. identity.ErrOneTimeRefused: the token is not good, and
// nothing was done.
func (s *Store) ResetPassword(ctx context.Context, secret, hash string) (user identity.UserID, ended int, err error) {
	if !storable(hash) || hash == "" {
		return user, 0, ErrBadText
	}
	err = s.change(ctx, queryResetPassword, "resetting a password", func(tx pgx.Tx) (err error) {
		user, err = holder(ctx, tx, identity.ResetPurpose, secret)
		if err != nil {
			return err
		}
		// Before the user's row, in the order in which logins take them.
		if _, err := tx.Exec(ctx, unlockSQL, uuidOrNull(user)); err != nil {
			return fmt.Errorf("forgetting failures: %w", err)
		}
		if err := useOneTime(ctx, tx, user, identity.ResetPurpose, secret); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE users SET hashed_password = $2, password_changed_at = now(), updated_at = now() WHERE id = $1`,
			uuidOrNull(user), hash); err != nil {
			return err
		}
		const reason = "password_reset"
		if ended, err = revoke(ctx, tx, user, identity.SessionID{}, reason); err != nil {
			return err
		}
		who := identity.Event{Name: "password.reset", Actor: user, Subject: user, Details: map[string]any{"sessions": ended, "by": "mail"}}
		if err := audit(ctx, tx, who); err != nil || ended == 0 {
			return err
		}
		return auditEnded(ctx, tx, identity.Event{Actor: user, Subject: user}, reason, ended)
	})
	if err != nil {
		return identity.UserID{}, 0, err
	}
	return user, ended, nil
}

// VerifyEmail uses a token up and marks the address as verified that it was mailed to.
// identity.ErrOneTimeRefused: the token is not good, and nothing was done.
func (s *Store) VerifyEmail(ctx context.Context, secret string) (user identity.UserID, err error) {
	err = s.change(ctx, queryVerifyEmail, "verifying an address", func(tx pgx.Tx) (err error) {
		user, err = holder(ctx, tx, identity.VerifyPurpose, secret)
		if err != nil {
			return err
		}
		if err := useOneTime(ctx, tx, user, identity.VerifyPurpose, secret); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE users SET email_verified_at = now(), updated_at = now() WHERE id = $1`, uuidOrNull(user)); err != nil {
			return err
		}
		return audit(ctx, tx, identity.Event{Name: "email.verified", Actor: user, Subject: user})
	})
	if err != nil {
		return identity.UserID{}, err
	}
	return user, nil
}

// holder is whose a token is, good or not.
func holder(ctx context.Context, tx pgx.Tx, purpose identity.OneTimePurpose, secret string) (identity.UserID, error) {
	var user pgtype.UUID
	err := tx.QueryRow(ctx, `SELECT user_id FROM one_time_tokens WHERE token_hash = $2 AND purpose = $1`,
		string(purpose), secretHash(secret)).Scan(&user)
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.UserID{}, refusal{identity.ErrOneTimeRefused}
	}
	return identity.UserID(user.Bytes), err
}

// useOneTime uses a good token up, under the lock of its user's row: of two that come
// with one token, the second finds it used.
func useOneTime(ctx context.Context, tx pgx.Tx, user identity.UserID, purpose identity.OneTimePurpose, secret string) error {
	_, _, err := lockUser(ctx, tx, user, identity.SessionID{}, nil)
	if errors.Is(err, identity.ErrNotFound) {
		return refusal{identity.ErrOneTimeRefused}
	}
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `UPDATE one_time_tokens t SET used_at = clock_timestamp() FROM users u WHERE `+goodSQL,
		string(purpose), secretHash(secret))
	if err == nil && tag.RowsAffected() == 0 {
		return refusal{identity.ErrOneTimeRefused}
	}
	return err
}

// SweepOneTimeTokens deletes tokens that are over, at most SweepLimit, and says how
// many.
func (s *Store) SweepOneTimeTokens(ctx context.Context) (int, error) {
	swept := 0
	err := s.write(ctx, querySweepOneTime, func(ctx context.Context) error {
		tag, err := s.pool.Exec(ctx, `DELETE FROM one_time_tokens WHERE token_hash IN (
			SELECT token_hash FROM one_time_tokens WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)`, SweepLimit)
		swept = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("deleting one-time tokens that are over: %w", err)
	}
	return swept, nil
}
