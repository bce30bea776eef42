package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// standingSQL reads one user, one of its sessions and all its companies in one
// statement, and so as of one moment. The current company comes first and with
// the role of the users row; a membership row of the same company is the older
// word on it and is passed over.
const standingSQL = `
SELECT u.is_active IS TRUE, coalesce(u.email::text, ''), u.tokens_valid_after,
       s.id IS NOT NULL, s.ended_at IS NOT NULL, s.auth_time, s.valid_from, s.not_after,
       u.company_id, m.companies, m.roles, m.suspended,
       EXISTS (SELECT FROM companies c WHERE c.id = $3 AND c.is_active = false)
  FROM users u
  LEFT JOIN sessions s ON s.id = $2 AND s.user_id = u.id
` + membershipsSQL + `
 WHERE u.id = $1`

// membershipsSQL gives the companies of the users row u, in any order: three sorts
// of what is one company most of the time would cost more than the rest.
const membershipsSQL = ` CROSS JOIN LATERAL (
       SELECT array_agg(b.company_id) AS companies,
              array_agg(b.role) AS roles,
              array_agg(EXISTS (SELECT FROM companies c WHERE c.id = b.company_id AND c.is_active = false)) AS suspended
         FROM (SELECT u.company_id, coalesce(u.role::text, '') AS role
                WHERE u.company_id IS NOT NULL
               UNION ALL
               SELECT cm.company_id, cm.role
                 FROM company_members cm
                WHERE cm.user_id = u.id AND cm.company_id IS DISTINCT FROM u.company_id) b
       ) m`

// Standing says what the database says now of a user, of one of its sessions and
// of the company that it acts for (zero: not asked about). A user that does not
// exist is the zero Standing and no error; so a session of another user does not
// exist either.
func (s *Store) Standing(ctx context.Context, user identity.UserID, session identity.SessionID, company identity.CompanyID) (identity.Standing, error) {
	var found identity.Standing
	err := s.read(ctx, queryStanding, func(ctx context.Context) (err error) {
		found, err = standing(ctx, s.pool, user, session, company)
		return err
	})
	return found, err
}

func standing(ctx context.Context, db querier, user identity.UserID, session identity.SessionID, company identity.CompanyID) (identity.Standing, error) {
	var r standingRow
	err := db.QueryRow(ctx, standingSQL, uuidOrNull(user), uuidOrNull(session), uuidOrNull(company)).Scan(r.into()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.Standing{}, nil
	}
	if err != nil {
		return identity.Standing{}, fmt.Errorf("reading the standing of a user: %w", err)
	}
	return r.standing(), nil
}

// standingRow takes what standingSQL and standingsSQL select of one user; what
// else a query selects comes first in its scan.
type standingRow struct {
	active, sessionExists, sessionEnded, companySuspended bool
	email                                                 string
	validAfter, authTime, validFrom, notAfter             pgtype.Timestamptz
	current                                               pgtype.UUID
	companies                                             []pgtype.UUID
	roles                                                 []string
	suspended                                             []bool
}

func (r *standingRow) into(more ...any) []any {
	return append(more, &r.active, &r.email, &r.validAfter,
		&r.sessionExists, &r.sessionEnded, &r.authTime, &r.validFrom, &r.notAfter,
		&r.current, &r.companies, &r.roles, &r.suspended, &r.companySuspended)
}

func (r *standingRow) standing() identity.Standing {
	found := identity.Standing{
		Exists:           true,
		Active:           r.active,
		Email:            r.email,
		TokensValidAfter: instant(r.validAfter),
		Session: identity.Session{
			Exists:    r.sessionExists,
			Ended:     r.sessionEnded,
			AuthTime:  instant(r.authTime),
			ValidFrom: instant(r.validFrom),
			NotAfter:  instant(r.notAfter),
		},
		Suspended: r.companySuspended,
	}
	for i, c := range r.companies {
		m := identity.Membership{Company: identity.CompanyID(c.Bytes), Role: r.roles[i], Suspended: r.suspended[i]}
		if !m.Company.IsZero() { // the nil UUID is how a hand-made row spells "none"
			found.Memberships = append(found.Memberships, m)
		}
	}
	// The current one first, the others by their ids.
	slices.SortFunc(found.Memberships, func(a, b identity.Membership) int {
		switch current := identity.CompanyID(r.current.Bytes); {
		case a.Company == current:
			return -1
		case b.Company == current:
			return 1
		default:
			return bytes.Compare(a.Company[:], b.Company[:])
		}
	})
	return found
}
