package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// A seal is the comment on a function or trigger that Migrate made: the hash of
// what it made. CREATE OR REPLACE keeps a comment and DROP takes it along, so one
// that does not fit its object means that somebody else has been there. It is in
// the database so that releases side by side take each other's functions for good.
const (
	sealPrefix = "made by gatehouse migrate: "
	// functionSeal is of the pg_proc row p: all that decides what it does.
	functionSeal = `'` + sealPrefix + `' || md5(concat_ws(' ', p.prosrc, p.prosecdef, p.proconfig))`
	// triggerSeal is of the pg_trigger row t. Only Migrate and Status look at it.
	triggerSeal = `'` + sealPrefix + `' || md5(pg_get_triggerdef(t.oid))`
)

// brokenSQL finds which of the functions $1 (with what they take: $4), and of the
// triggers $3 on the tables $2, are not as Migrate made them.
const brokenSQL = `
SELECT b.name, b.why FROM (
SELECT 0 AS kind, w.n, w.name, CASE WHEN p.oid IS NULL THEN '` + missing + `' ELSE 'altered' END AS why
  FROM unnest($1::text[], $4::text[]) WITH ORDINALITY AS w (name, signature, n)
  LEFT JOIN pg_catalog.pg_proc p ON p.oid = to_regprocedure(w.signature)
 WHERE obj_description(p.oid, 'pg_proc') IS DISTINCT FROM ` + functionSeal + `
UNION ALL
SELECT 1, w.n, w.name, CASE WHEN t.oid IS NULL THEN '` + missing + `' WHEN t.tgenabled <> 'A' THEN '` + notAlways + `' ELSE 'altered' END
  FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS w (tab, name, n)
  LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = to_regclass(w.tab) AND t.tgname = w.name
 WHERE t.tgenabled IS DISTINCT FROM 'A' OR obj_description(t.oid, 'pg_trigger') IS DISTINCT FROM ` + triggerSeal + `
) b ORDER BY b.kind, b.n`

// Broken is a function, a trigger or a partition of ours that does not do what it should.
type Broken struct {
	Name string
	Why  string // "missing", "not ENABLE ALWAYS", "altered", "renamed" or "detached"
}

const (
	missing   = "missing"
	notAlways = "not ENABLE ALWAYS"
)

func (b Broken) String() string { return b.Name + " (" + b.Why + ")" }

// broken looks at all functions and triggers, and only reads.
func (m *migrator) broken(ctx context.Context) ([]Broken, error) {
	var names, signatures, tables, on []string
	for _, f := range functions("") {
		names, signatures = append(names, f.name), append(signatures, f.signature())
	}
	for _, t := range triggers() {
		tables, on = append(tables, t.table), append(on, t.name)
	}
	rows, err := m.control.QueryContext(ctx, brokenSQL, names, tables, on, signatures)
	if err != nil {
		return nil, fmt.Errorf("looking at triggers and functions: %w", err)
	}
	defer rows.Close()
	var found []Broken
	for rows.Next() {
		var b Broken
		if err := rows.Scan(&b.Name, &b.Why); err != nil {
			return nil, fmt.Errorf("looking at triggers and functions: %w", err)
		}
		found = append(found, b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("looking at triggers and functions: %w", err)
	}
	rest, _, err := brokenRest(ctx, m.control)
	if err != nil {
		return nil, err
	}
	if rest != nil {
		found = append(found, *rest)
	}
	guards, err := brokenGuards(ctx, m.control)
	for _, g := range guards {
		found = append(found, g.broken())
	}
	return found, err
}

// repair puts back what is broken, in one transaction, and says what that was.
// What is as it should be is not touched: a trigger that is made anew stops all
// readers of its table for a moment. It is called under the migration lock.
func (m *migrator) repair(ctx context.Context, opts MigrateOptions) (found []Broken, err error) {
	err = m.patiently(ctx, opts, func() (err error) {
		if found, err = m.broken(ctx); err != nil || len(found) == 0 {
			return err
		}
		tx, err := m.control.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := m.remake(ctx, tx, found); err != nil {
			_ = tx.Rollback()
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		return nil, fmt.Errorf("putting back triggers and functions: %w", m.explain(ctx, err))
	}
	return found, nil
}

func (m *migrator) remake(ctx context.Context, tx *sql.Tx, found []Broken) error {
	lost := func(name string) (why string) {
		if i := slices.IndexFunc(found, func(b Broken) bool { return b.Name == name }); i >= 0 {
			why = found[i].Why
		}
		return why
	}
	for _, f := range functions(m.searchPath()) {
		why := lost(f.name)
		if why == "" {
			continue
		}
		for _, statement := range f.sql(why != missing) {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("making the function %s: %w", f.name, err)
			}
		}
		if err := seal(ctx, tx, `FUNCTION `+f.signature(),
			`SELECT `+functionSeal+` FROM pg_catalog.pg_proc p WHERE p.oid = to_regprocedure($1)`, f.signature()); err != nil {
			return err
		}
	}
	for _, t := range triggers() {
		if lost(t.name) == "" {
			continue
		}
		for _, statement := range t.sql() {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("making the trigger %s: %w", t.name, err)
			}
		}
		if err := seal(ctx, tx, `TRIGGER `+t.name+` ON `+t.table,
			`SELECT `+triggerSeal+` FROM pg_catalog.pg_trigger t WHERE t.tgrelid = to_regclass($1) AND t.tgname = $2`, t.table, t.name); err != nil {
			return err
		}
	}
	if err := remakeRest(ctx, tx); err != nil {
		return err
	}
	return remakeGuards(ctx, tx)
}

// seal comments on an object of ours.
func seal(ctx context.Context, tx *sql.Tx, object, query string, args ...any) error {
	var text string
	if err := tx.QueryRowContext(ctx, query, args...).Scan(&text); err != nil {
		return fmt.Errorf("reading %s: %w", object, err)
	}
	// A comment takes no parameter; the text is the prefix and hexadecimal digits.
	if _, err := tx.ExecContext(ctx, `COMMENT ON `+object+` IS '`+text+`'`); err != nil {
		return fmt.Errorf("sealing %s: %w", object, err)
	}
	return nil
}
