package postgres

// AccountByEmailSQL lets a test ask the planner about the statement itself.
const AccountByEmailSQL = accountByEmailSQL
