package postgres

import (
	"context"
	"fmt"
)

// highestBcryptCostSQL reads every row, once at the start of the login service.
// The pattern is the one of the hashes that are ever verified: another one in a
// row costs what the decoy costs.
const highestBcryptCostSQL = `SELECT coalesce(max(substr(hashed_password::text, 5, 2)::int), 0) FROM users
  WHERE hashed_password::text ~ '^\$2[aby]\$(0[4-9]|1[0-4])\$'`

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
