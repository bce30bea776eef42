package postgres

import "context"

// AccountByEmailSQL lets a test ask the planner about the statement itself.
const AccountByEmailSQL = accountByEmailSQL

// SweepSQL does so too.
const SweepSQL = sweepSQL

// NoticesAtOnce lets a test go to the bound and one further.
const NoticesAtOnce = noticesAtOnce

// QueryCount is how many names of queries there are.
func QueryCount() int { return len(queries()) }

// PlanMode is how a connection of the store plans what it has prepared.
func PlanMode(ctx context.Context, s *Store) (mode string, err error) {
	err = s.pool.QueryRow(ctx, `SHOW plan_cache_mode`).Scan(&mode)
	return mode, err
}
