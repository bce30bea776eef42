package postgres

// AccountByEmailSQL lets a test ask the planner about the statement itself.
const AccountByEmailSQL = accountByEmailSQL

// QueryCount is how many names of queries there are.
func QueryCount() int { return len(queries()) }
