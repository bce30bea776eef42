package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// standingsSQL is standingSQL for many users in one statement, and so as of one
// moment for all of them.
const standingsSQL = `
SELECT q.n, u.is_active IS TRUE, coalesce(u.email::text, ''), u.tokens_valid_after,
       s.id IS NOT NULL, s.ended_at IS NOT NULL, s.auth_time, s.valid_from, s.not_after,
       u.company_id, m.companies, m.roles, m.suspended,
       EXISTS (SELECT FROM companies c WHERE c.id = q.company_id AND c.is_active = false)
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS q (user_id, session_id, company_id, n)
  JOIN users u ON u.id = q.user_id
  LEFT JOIN sessions s ON s.id = q.session_id AND s.user_id = u.id
` + membershipsSQL

// Standings answers many questions with one statement. The answers stand in the
// order of the questions, and each is what Standing would have said.
func (s *Store) Standings(ctx context.Context, questions []identity.Question) ([]identity.Standing, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	var found []identity.Standing
	err := s.read(ctx, queryStandings, func(ctx context.Context) (err error) {
		found, err = s.standings(ctx, questions)
		return err
	})
	return found, err
}

func (s *Store) standings(ctx context.Context, questions []identity.Question) ([]identity.Standing, error) {
	users := make([]pgtype.UUID, len(questions))
	sessions := make([]pgtype.UUID, len(questions))
	companies := make([]pgtype.UUID, len(questions))
	for i, q := range questions {
		users[i], sessions[i], companies[i] = uuidOrNull(q.User), uuidOrNull(q.Session), uuidOrNull(q.Company)
	}
	rows, err := s.pool.Query(ctx, standingsSQL, users, sessions, companies)
	if err != nil {
		return nil, fmt.Errorf("reading the standing of %d users: %w", len(questions), err)
	}
	defer rows.Close()
	found := make([]identity.Standing, len(questions))
	for rows.Next() {
		var r standingRow
		var n int
		if err := rows.Scan(r.into(&n)...); err != nil {
			return nil, fmt.Errorf("reading the standing of %d users: %w", len(questions), err)
		}
		if n < 1 || n > len(found) {
			return nil, fmt.Errorf("reading the standing of %d users: the database answered number %d", len(questions), n)
		}
		found[n-1] = r.standing()
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the standing of %d users: %w", len(questions), err)
	}
	return found, nil
}
