package postgres

import (
	"context"
	"errors"
	"fmt"

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
       s.id IS NOT NULL, s.ended_at IS NOT NULL, s.valid_from, s.not_after,
       m.companies, m.roles, m.suspended,
       EXISTS (SELECT FROM companies c WHERE c.id = $3 AND c.is_active = false)
  FROM users u
  LEFT JOIN sessions s ON s.id = $2 AND s.user_id = u.id
 CROSS JOIN LATERAL (
       SELECT array_agg(b.company_id ORDER BY b.place, b.company_id) AS companies,
              array_agg(b.role ORDER BY b.place, b.company_id) AS roles,
              array_agg(EXISTS (SELECT FROM companies c WHERE c.id = b.company_id AND c.is_active = false)
                        ORDER BY b.place, b.company_id) AS suspended
         FROM (SELECT u.company_id, coalesce(u.role::text, '') AS role, 0 AS place
                WHERE u.company_id IS NOT NULL
               UNION ALL
               SELECT cm.company_id, cm.role, 1
                 FROM company_members cm
                WHERE cm.user_id = u.id AND cm.company_id IS DISTINCT FROM u.company_id) b
       ) m
 WHERE u.id = $1`

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
	found := identity.Standing{Exists: true}
	var validAfter, validFrom, notAfter pgtype.Timestamptz
	var companies []pgtype.UUID
	var roles []string
	var suspended []bool
	err := db.QueryRow(ctx, standingSQL, uuidOrNull(user), uuidOrNull(session), uuidOrNull(company)).Scan(
		&found.Active, &found.Email, &validAfter,
		&found.Session.Exists, &found.Session.Ended, &validFrom, &notAfter,
		&companies, &roles, &suspended, &found.Suspended)
	if errors.Is(err, pgx.ErrNoRows) {
		return identity.Standing{}, nil
	}
	if err != nil {
		return identity.Standing{}, fmt.Errorf("reading the standing of a user: %w", err)
	}
	found.TokensValidAfter = instant(validAfter)
	found.Session.ValidFrom = instant(validFrom)
	found.Session.NotAfter = instant(notAfter)
	for i, c := range companies {
		m := identity.Membership{Company: identity.CompanyID(c.Bytes), Role: roles[i], Suspended: suspended[i]}
		if !m.Company.IsZero() { // the nil UUID is how a hand-made row spells "none"
			found.Memberships = append(found.Memberships, m)
		}
	}
	return found, nil
}
