package postgres

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// ErrBadCursor is returned for a cursor that ListUsers did not give.
var ErrBadCursor = errors.New("not a cursor of this list")

// MostUsers bounds one page of ListUsers.
const MostUsers = 1000

// defaultRole is the least a user can be.
const defaultRole = "user"

// CreateUser makes a user. A zero ID is replaced by a random one and an empty
// role by "user"; Active is taken as it is. A company must be one that the
// companies table knows (identity.ErrUnknownCompany). Two that make the same
// address at once: one of them gets identity.ErrEmailTaken.
func (s *Store) CreateUser(ctx context.Context, account identity.Account) (identity.User, error) {
	for _, text := range []string{account.Email, account.FullName, account.Role, account.PasswordHash} {
		if !storable(text) {
			return identity.User{}, ErrBadText
		}
	}
	if account.ID.IsZero() {
		id, err := uuid.NewRandom()
		if err != nil {
			return identity.User{}, fmt.Errorf("making a user id: %w", err)
		}
		account.ID = identity.UserID(id)
	}
	if account.Role == "" {
		account.Role = defaultRole
	}
	var made identity.User
	err := s.write(ctx, queryCreateUser, func(ctx context.Context) (err error) {
		// Every column is set: an adopted table may have no defaults.
		from := identity.OriginOf(ctx)
		made, err = scanUser(s.pool.QueryRow(ctx, `
			WITH u AS (
			  INSERT INTO users (id, company_id, email, hashed_password, full_name, role, is_active, created_at, updated_at)
			  SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::text, $7::boolean, now(), now()
			   WHERE $2::uuid IS NULL OR EXISTS (SELECT FROM companies c WHERE c.id = $2::uuid)
			  RETURNING id, email, full_name, role, company_id, is_active, created_at, last_login),
			recorded AS (
			  INSERT INTO audit_log (event, outcome, operator, subject_user, company_id, ip, request_id)
			  SELECT 'user.created', 'success', $8, id, company_id, $9, $10 FROM u)
			SELECT `+userColumns+` FROM u`,
			uuidOrNull(account.ID), uuidOrNull(account.Company), account.Email, textOrNull(account.PasswordHash),
			textOrNull(account.FullName), account.Role, account.Active,
			plainOrNull(from.Operator), addressOrNull(from.Address), plainOrNull(from.RequestID)))
		var refused *pgconn.PgError
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return identity.ErrUnknownCompany
		case errors.As(err, &refused) && refused.Code == codeUniqueViolation && s.emailExists(ctx, account.Email):
			return identity.ErrEmailTaken
		case err != nil:
			return fmt.Errorf("creating a user: %w", err)
		}
		return nil
	})
	return made, err
}

// emailExists tells a taken address from another unique index of an adopted
// table that stood in the way.
func (s *Store) emailExists(ctx context.Context, email string) bool {
	var exists bool
	err := s.pool.QueryRow(ctx,
		`SELECT EXISTS (SELECT FROM users u WHERE lower(u.email COLLATE "C") = lower($1::text COLLATE "C"))`, email).Scan(&exists)
	return err == nil && exists
}

// FindUser finds a user by its email (case of ASCII letters ignored) or its id.
// identity.ErrNotFound: there is none.
func (s *Store) FindUser(ctx context.Context, emailOrID string) (identity.User, error) {
	if !storable(emailOrID) {
		return identity.User{}, identity.ErrNotFound
	}
	where, arg := `lower(u.email COLLATE "C") = lower($1::text COLLATE "C")`, any(emailOrID)
	if id, err := identity.ParseUserID(emailOrID); err == nil {
		where, arg = `u.id = $1`, pgtype.UUID{Bytes: id, Valid: true}
	}
	var found identity.User
	err := s.read(ctx, queryFindUser, func(ctx context.Context) (err error) {
		found, err = scanUser(s.pool.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE `+where, arg))
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.User{}, identity.ErrNotFound
	}
	if err != nil {
		return identity.User{}, fmt.Errorf("looking for a user: %w", err)
	}
	return found, nil
}

// ListUsers gives up to limit users (at most MostUsers), oldest first, that come
// after the cursor (empty: from the start), and the cursor of the next page,
// which is empty at the end. Rows that come and go meanwhile neither repeat nor
// hide others. Without an index on created_at a page costs a scan: this is for
// operators.
func (s *Store) ListUsers(ctx context.Context, limit int, after string) ([]identity.User, string, error) {
	limit = min(max(limit, 1), MostUsers)
	at, id, err := parseCursor(after)
	if err != nil {
		return nil, "", err
	}
	var found []listedUser
	err = s.read(ctx, queryListUsers, func(ctx context.Context) error {
		// A row without a date is older than all others.
		const listedAt = `coalesce(u.created_at::timestamptz, '-infinity')`
		rows, err := s.pool.Query(ctx, `SELECT `+userColumns+`, `+listedAt+` FROM users u
			 WHERE $1::timestamptz IS NULL OR (`+listedAt+`, u.id) > ($1::timestamptz, $2::uuid)
			 ORDER BY `+listedAt+`, u.id LIMIT $3`, at, id, limit+1)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (listedUser, error) {
			var r listedUser
			err := row.Scan(r.into(&r.listedAt)...)
			return r, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing users: %w", err)
	}
	next := ""
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].cursor()
	}
	users := make([]identity.User, 0, len(found))
	for _, r := range found {
		users = append(users, r.user())
	}
	return users, next, nil
}

type listedUser struct {
	userRow
	listedAt pgtype.Timestamptz
}

// cursor is the place of a row in the list, exactly: "infinity modifier, Unix
// microseconds, id". It is encoded only so that nobody builds upon its inside.
func (u listedUser) cursor() string {
	micros := int64(0)
	if u.listedAt.InfinityModifier == pgtype.Finite {
		micros = u.listedAt.Time.UnixMicro()
	}
	text := fmt.Sprintf("%d %d %s", u.listedAt.InfinityModifier, micros, uuid.UUID(u.id.Bytes))
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func parseCursor(text string) (at pgtype.Timestamptz, id pgtype.UUID, err error) {
	if text == "" {
		return at, id, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return at, id, ErrBadCursor
	}
	var modifier int8
	var micros int64
	var name string
	if _, err := fmt.Sscanf(string(raw), "%d %d %s", &modifier, &micros, &name); err != nil {
		return at, id, ErrBadCursor
	}
	const oldest = -210_866_803_200_000_000 // 4714 BC, where timestamptz begins
	parsed, err := identity.ParseUserID(name)
	if err != nil || modifier < -1 || modifier > 1 || micros < oldest {
		return at, id, ErrBadCursor
	}
	at = pgtype.Timestamptz{InfinityModifier: pgtype.InfinityModifier(modifier), Valid: true}
	if modifier == 0 {
		at.Time = time.UnixMicro(micros).UTC()
	}
	return at, pgtype.UUID{Bytes: parsed, Valid: true}, nil
}

// SetActive enables or disables a user, and reports whether that was a change. A
// user whose is_active is NULL is not active, and disabling it writes that down.
func (s *Store) SetActive(ctx context.Context, user identity.UserID, active bool) (bool, error) {
	changed := false
	err := s.change(ctx, querySetActive, "enabling or disabling a user", func(tx pgx.Tx) error {
		var exists bool
		err := tx.QueryRow(ctx, `
			WITH changed AS (
			  UPDATE users SET is_active = $2, updated_at = now()
			   WHERE id = $1 AND is_active IS DISTINCT FROM $2 RETURNING id),
			recorded AS (
			  INSERT INTO audit_log (event, outcome, operator, subject_user)
			  SELECT CASE WHEN $2 THEN 'user.enabled' ELSE 'user.disabled' END, 'success', $3, id FROM changed)
			SELECT EXISTS (SELECT FROM users WHERE id = $1), EXISTS (SELECT FROM changed)`,
			uuidOrNull(user), active, plainOrNull(identity.OriginOf(ctx).Operator)).Scan(&exists, &changed)
		if err == nil && !exists {
			err = refusal{identity.ErrNotFound}
		}
		return err
	})
	return changed, err
}

// SetPassword stores the hash of a new password, on an operator's word, and ends
// every login of the user: whoever knew the old password is out. It says how many
// sessions that were.
func (s *Store) SetPassword(ctx context.Context, user identity.UserID, hash string) (int, error) {
	if !storable(hash) || hash == "" {
		return 0, ErrBadText
	}
	ended := 0
	err := s.change(ctx, querySetPassword, "setting a password", func(tx pgx.Tx) error {
		// What was guessed before was about another password. In this order, as logins
		// take them: the counts, then the user.
		if _, err := tx.Exec(ctx, unlockSQL, uuidOrNull(user)); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx,
			`UPDATE users SET hashed_password = $2, password_changed_at = now(), updated_at = now() WHERE id = $1`,
			uuidOrNull(user), hash)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return refusal{identity.ErrNotFound}
		}
		if ended, err = revoke(ctx, tx, user, identity.SessionID{}, "password_reset"); err != nil {
			return err
		}
		return audit(ctx, tx, identity.Event{Name: "password.reset", Subject: user, Details: map[string]any{"sessions": ended}})
	})
	return ended, err
}
