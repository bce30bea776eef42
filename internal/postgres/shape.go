package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// listed bounds what an error lists of a table's rows.
	listed = 100
	// longestEmail is what still fits an index entry whatever its bytes are.
	longestEmail = 2000
	// roomForHash holds every hash of today's schemes with their largest costs.
	roomForHash = 128
)

// ShapeError says why existing tables cannot be adopted: all of it at once.
type ShapeError struct {
	Differences []string
}

func (e *ShapeError) Error() string {
	return "the existing tables do not have the expected shape, nothing was changed:\n  - " +
		strings.Join(e.Differences, "\n  - ")
}

// EmailConflict is a row whose email another row has too.
type EmailConflict struct {
	ID    string
	Email string
}

// EmailConflictError lists users that are one and the same person once the case
// of ASCII letters is ignored. Rows of one address stand together.
type EmailConflictError struct {
	Total int // rows in conflict
	Rows  []EmailConflict
}

func (e *EmailConflictError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows of users share an email with another row (case ignored), nothing was changed; "+
		"each address may stand once:", e.Total)
	for _, r := range e.Rows {
		fmt.Fprintf(&b, "\n  - %s %q", r.ID, r.Email)
	}
	if more := e.Total - len(e.Rows); more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	return b.String()
}

func isShapeFault(err error) bool {
	var shape *ShapeError
	var conflict *EmailConflictError
	return errors.As(err, &shape) || errors.As(err, &conflict)
}

// ownTable is one that a migration makes.
type ownTable struct {
	name  string
	since int64 // the version that makes it
}

// ownTables are made by the migrations; what has such a name before the first of
// them belongs to somebody else.
func ownTables() []ownTable {
	return []ownTable{
		{"company_members", 1}, {"company_invitations", 1}, {"sessions", 1},
		{"gatehouse_replicas", 3}, {"gatehouse_fence", 3},
		{"login_throttle", 4}, {"login_known_sources", 4},
		{"audit_log", 5},
		{"refresh_tokens", 7},
		{"one_time_tokens", 8},
	}
}

// wanted is a column and the types that will do for it. More columns, other
// indexes, other defaults and missing NOT NULLs do no harm and are not looked
// at: every statement names its columns, sets each of them and reads NULL.
//
// A varchar or a citext reads like a text. A timestamp without a zone is taken
// where only people look at it; where a token is judged by it, it is not. An
// enum is not taken for a text: writing another company's role could fail.
type wanted struct {
	name     string
	types    []string
	optional bool // made by us where it is missing
}

func usersShape() []wanted {
	texts := []string{"text", "varchar", "citext"}
	times := []string{"timestamptz", "timestamp"}
	return []wanted{
		{name: "id", types: []string{"uuid"}},
		{name: "company_id", types: []string{"uuid"}},
		{name: "email", types: texts},
		{name: "hashed_password", types: texts[:2]},
		{name: "full_name", types: texts},
		{name: "role", types: texts},
		{name: "created_at", types: times},
		{name: "updated_at", types: times},
		{name: "last_login", types: times},
		{name: "is_active", types: []string{"bool"}},
		{name: "tokens_valid_after", types: times[:1], optional: true},
		{name: "password_changed_at", types: times[:1], optional: true},
		{name: "email_verified_at", types: times[:1], optional: true},
	}
}

func companiesShape() []wanted {
	return []wanted{
		{name: "id", types: []string{"uuid"}},
		{name: "name", types: []string{"text", "varchar", "citext"}},
		{name: "is_active", types: []string{"bool"}, optional: true},
		{name: "created_at", types: []string{"timestamptz", "timestamp"}, optional: true},
	}
}

// checkShape judges whether the first migration can adopt what is there. It only
// reads. The error is a ShapeError, an EmailConflictError or a failed query.
func (m *migrator) checkShape(ctx context.Context) (warnings []string, err error) {
	users, err := readTable(ctx, m.control, "users")
	if err != nil {
		return nil, err
	}
	companies, err := readTable(ctx, m.control, "companies")
	if err != nil {
		return nil, err
	}
	faults, err := clashingNames(ctx, m.control, 0)
	if err != nil {
		return nil, err
	}
	for _, shadow := range m.shadows {
		faults = append(faults, fmt.Sprintf("%s comes before the schema %q, which holds users, in the search_path", shadow, m.schema))
	}
	if companies.exists {
		faults = append(companies.differences(companiesShape()), faults...)
	}
	if users.exists {
		if c, ok := users.columns["id"]; ok && !c.unique {
			faults = append([]string{"users.id is neither the primary key nor unique"}, faults...)
		}
		faults = append(users.differences(usersShape()), faults...)
	}
	if len(faults) == 0 && users.exists {
		if faults, err = unfitRows(ctx, m.control, companies); err != nil {
			return nil, err
		}
	}
	if len(faults) > 0 {
		return nil, &ShapeError{Differences: faults}
	}
	if !users.exists {
		return nil, nil
	}
	if c := users.columns["hashed_password"]; c.limit > 0 && c.limit < roomForHash {
		warnings = append(warnings, fmt.Sprintf(
			"users.hashed_password holds only %d characters: new password hashes will not fit; ALTER it to text", c.limit))
	}
	for _, t := range []table{users, companies} {
		for _, column := range t.demands() {
			warnings = append(warnings, fmt.Sprintf("%s is NOT NULL without a default: Gatehouse cannot add rows there", column))
		}
	}
	return warnings, checkEmails(ctx, m.control)
}

// unfitRows looks for rows of a table of the right shape that would stop the
// migration half-way: it would be undone, but with a message that helps nobody.
func unfitRows(ctx context.Context, db *sql.Conn, companies table) (faults []string, err error) {
	var long int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM users WHERE octet_length(email::text) > $1`, longestEmail).Scan(&long); err != nil {
		return nil, fmt.Errorf("measuring emails: %w", err)
	}
	if long > 0 {
		faults = append(faults, fmt.Sprintf("%d rows of users have an email of more than %d bytes", long, longestEmail))
	}
	demands := companies.demands()
	if len(demands) == 0 {
		return faults, nil
	}
	var missing int
	if err := db.QueryRowContext(ctx, `SELECT count(DISTINCT company_id) FROM users u
		WHERE company_id IS NOT NULL AND NOT EXISTS (SELECT FROM companies c WHERE c.id = u.company_id)`).Scan(&missing); err != nil {
		return nil, fmt.Errorf("counting companies without a row: %w", err)
	}
	if missing > 0 {
		faults = append(faults, fmt.Sprintf("%d companies that users name have no row, and none can be added: %s is NOT NULL without a default",
			missing, strings.Join(demands, ", ")))
	}
	return faults, nil
}

func checkEmails(ctx context.Context, db *sql.Conn) error {
	rows, err := db.QueryContext(ctx, `
		SELECT id::text, email::text, count(*) OVER ()
		  FROM (SELECT id, email, count(*) OVER (PARTITION BY lower(email COLLATE "C")) AS times
		          FROM users WHERE email IS NOT NULL) u
		 WHERE times > 1 ORDER BY lower(email COLLATE "C"), id LIMIT $1`, listed)
	if err != nil {
		return fmt.Errorf("looking for emails in conflict: %w", err)
	}
	defer rows.Close()
	conflict := &EmailConflictError{}
	for rows.Next() {
		var r EmailConflict
		if err := rows.Scan(&r.ID, &r.Email, &conflict.Total); err != nil {
			return fmt.Errorf("reading emails in conflict: %w", err)
		}
		conflict.Rows = append(conflict.Rows, r)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading emails in conflict: %w", err)
	}
	if len(conflict.Rows) > 0 {
		return conflict
	}
	return nil
}

// clashingNames finds relations in the way of migrations after version: tables,
// and before the first of them the email index unless it is exactly ours, as in a
// restored users table.
func clashingNames(ctx context.Context, db *sql.Conn, version int64) ([]string, error) {
	var faults []string
	for _, own := range ownTables() {
		if own.since <= version {
			continue // ours
		}
		var there bool
		if err := db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, own.name).Scan(&there); err != nil {
			return nil, fmt.Errorf("looking for the table %s: %w", own.name, err)
		}
		if there {
			faults = append(faults, fmt.Sprintf("a relation named %s exists and was not made by Gatehouse", own.name))
		}
	}
	if version > 0 {
		return faults, nil
	}
	var foreign bool
	err := db.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('users_email_fold_key'))
		   AND NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('users_email_fold_key')
		        AND indrelid = to_regclass('users') AND indisunique AND indisvalid AND indpred IS NULL
		        AND pg_get_indexdef(indexrelid) LIKE '%USING btree (lower(%email%COLLATE "C"%))')`).Scan(&foreign)
	if err != nil {
		return nil, fmt.Errorf("looking for the email index: %w", err)
	}
	if foreign {
		faults = append(faults, "a relation named users_email_fold_key exists and is not the unique index on the folded email")
	}
	return faults, nil
}

// table is what the catalogue says of one.
type table struct {
	name    string
	exists  bool
	kind    string // pg_class.relkind
	columns map[string]tableColumn
}

type tableColumn struct {
	base   string // type name, domains resolved
	shown  string // type as SQL spells it
	limit  int    // of a varchar; 0: none
	demand bool   // NOT NULL and nothing but the writer can fill it
	unique bool   // alone, at once and for every row: a foreign key may point at it
}

func readTable(ctx context.Context, db *sql.Conn, name string) (table, error) {
	t := table{name: name, columns: map[string]tableColumn{}}
	err := db.QueryRowContext(ctx, `SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1)`, name).Scan(&t.kind)
	if errors.Is(err, sql.ErrNoRows) {
		return t, nil
	}
	if err != nil {
		return table{}, fmt.Errorf("looking for the table %s: %w", name, err)
	}
	t.exists = true
	rows, err := db.QueryContext(ctx, `
		SELECT a.attname, coalesce(b.typname, t.typname), format_type(a.atttypid, a.atttypmod),
		       greatest(a.atttypmod - 4, 0), a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
		       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indimmediate
		                  AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)
		  FROM pg_attribute a
		  JOIN pg_type t ON t.oid = a.atttypid
		  LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
		 WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, name)
	if err != nil {
		return table{}, fmt.Errorf("reading the columns of %s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var column string
		var c tableColumn
		if err := rows.Scan(&column, &c.base, &c.shown, &c.limit, &c.demand, &c.unique); err != nil {
			return table{}, fmt.Errorf("reading the columns of %s: %w", name, err)
		}
		t.columns[column] = c
	}
	if err := rows.Err(); err != nil {
		return table{}, fmt.Errorf("reading the columns of %s: %w", name, err)
	}
	return t, nil
}

func (t table) differences(shape []wanted) []string {
	if t.kind != "r" {
		// A view has no rows to lock, and a unique index on an expression cannot
		// span partitions.
		return []string{t.name + " is not an ordinary table (a view, a foreign or a partitioned table)"}
	}
	var found []string
	for _, w := range shape {
		c, ok := t.columns[w.name]
		switch {
		case !ok && !w.optional:
			found = append(found, fmt.Sprintf("%s.%s is missing (%s)", t.name, w.name, w.types[0]))
		case ok && !slices.Contains(w.types, c.base):
			found = append(found, fmt.Sprintf("%s.%s is %s, not %s", t.name, w.name, c.shown, strings.Join(w.types, " or ")))
		}
	}
	return found
}

// demands names the columns that an insert of ours would leave out and may not.
func (t table) demands() []string {
	shape := usersShape()
	if t.name == "companies" {
		shape = companiesShape()
	}
	var found []string
	for name, c := range t.columns {
		if c.demand && !slices.ContainsFunc(shape, func(w wanted) bool { return w.name == name }) {
			found = append(found, t.name+"."+name)
		}
	}
	slices.Sort(found)
	return found
}
