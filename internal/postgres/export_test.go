package postgres

// AccountByEmailSQL lets a test ask the planner about the statement itself.
const AccountByEmailSQL = accountByEmailSQL

// SweepSQL does so too.
const SweepSQL = sweepSQL

// NoticesAtOnce lets a test go to the bound and one further.
const NoticesAtOnce = noticesAtOnce

// QueryCount is how many names of queries there are.
func QueryCount() int { return len(queries()) }
