package postgres

import (
	"context"
	"fmt"

	"github.com/atenex/gatehouse/internal/identity"
)

// bcryptPattern is of the hashes that are ever verified: another one in a row costs
// what the decoy costs.
const bcryptPattern = `^\$2[aby]\$(0[4-9]|1[0-4])\$`

// highestBcryptCostSQL reads every row, once at the start of the login service.
const highestBcryptCostSQL = `SELECT coalesce(max(substr(hashed_password::text, 5, 2)::int), 0) FROM users
  WHERE hashed_password::text ~ '` + bcryptPattern + `'`

// HighestBcryptCost is the cost (4 to 14) of the most expensive bcrypt hash in
// the table that can be verified, 0 if there is none.
func (s *Store) HighestBcryptCost(ctx context.Context) (int, error) {
	var cost int
	err := s.read(ctx, queryHighestCost, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, highestBcryptCostSQL).Scan(&cost)
	})
	if err != nil {
		return 0, fmt.Errorf("reading the cost of password hashes: %w", err)
	}
	return cost, nil
}

// CountHashes reads every row: it is for once in a while.
func (s *Store) CountHashes(ctx context.Context) (identity.HashCounts, error) {
	var n identity.HashCounts
	err := s.read(ctx, queryCountHashes, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE hashed_password::text ~ '`+bcryptPattern+`'),
			count(*) FILTER (WHERE starts_with(hashed_password::text, '$argon2id$')) FROM users`).Scan(&n.Bcrypt, &n.Argon2id)
	})
	if err != nil {
		return n, fmt.Errorf("counting password hashes: %w", err)
	}
	return n, nil
}
