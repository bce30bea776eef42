package postgres

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// ErrBadText is returned for a text that no PostgreSQL text can be: one with a
// NUL or with invalid UTF-8.
var ErrBadText = errors.New("the text holds a NUL or invalid UTF-8")

// storable reports that the server will take text as text. It is asked before
// every statement, so that such a text is never an error of the database.
func storable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// querier is what the pool and a transaction have in common.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// uuidOrNull passes the zero value, which means "none", as NULL.
func uuidOrNull[T ~[16]byte](id T) pgtype.UUID {
	return pgtype.UUID{Bytes: id, Valid: id != T{}}
}

// textOrNull passes the empty text, which means "none", as NULL.
func textOrNull(text string) pgtype.Text {
	return pgtype.Text{String: text, Valid: text != ""}
}

// instant reads a time that may be NULL (the zero time), infinite or before the
// year 1. What the database compares as early or late stays early or late, and
// nothing but NULL becomes the zero time, which means "never set".
func instant(t pgtype.Timestamptz) time.Time {
	dawn := time.Time{}.Add(time.Microsecond)
	dusk := time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)
	switch {
	case !t.Valid:
		return time.Time{}
	case t.InfinityModifier == pgtype.Infinity || t.Time.After(dusk):
		return dusk
	case t.InfinityModifier == pgtype.NegativeInfinity || t.Time.Before(dawn):
		return dawn
	default:
		return t.Time.UTC()
	}
}

// userColumns are read by scanUser. Every one may be NULL in an adopted table,
// and may be of another type than ours, hence the casts.
const userColumns = `u.id, coalesce(u.email::text, ''), coalesce(u.full_name::text, ''), coalesce(u.role::text, ''),
	u.company_id, u.is_active IS TRUE, u.created_at::timestamptz, u.last_login::timestamptz`

// userRow takes userColumns; what else a query selects follows in its scan.
type userRow struct {
	id, company          pgtype.UUID
	email, name, role    string
	active               bool
	createdAt, lastLogin pgtype.Timestamptz
}

func (r *userRow) into(more ...any) []any {
	return append([]any{&r.id, &r.email, &r.name, &r.role, &r.company, &r.active, &r.createdAt, &r.lastLogin}, more...)
}

func (r *userRow) user() identity.User {
	return identity.User{
		ID:        identity.UserID(r.id.Bytes),
		Email:     r.email,
		FullName:  r.name,
		Role:      r.role,
		Company:   identity.CompanyID(r.company.Bytes),
		Active:    r.active,
		CreatedAt: instant(r.createdAt),
		LastLogin: instant(r.lastLogin),
	}
}

func scanUser(row pgx.Row, more ...any) (identity.User, error) {
	var r userRow
	if err := row.Scan(r.into(more...)...); err != nil {
		return identity.User{}, err
	}
	return r.user(), nil
}
