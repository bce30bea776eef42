package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// What keeps the audit log append-only: a trigger on the whole, of which every
// partition has a copy, and one against TRUNCATE on the whole and on each partition,
// which PostgreSQL does not copy. Only gatehouse_audit_tend takes anything away, and
// only what is a day old at least. This keeps out mistakes and everybody who is not
// the table's owner; an owner can always take its own triggers off, until the next
// gatehouse migrate.
//
// They are told by what they are and not by a seal: partitions come and go, and are
// made by a function of the database.
//
// ALWAYS: session_replication_role turns none of them off. A restore adds rows and
// makes tables, and what DROP and DETACH do to partitions is no trigger's affair. A
// logical subscriber that is told of deletions would stop at one: it should be told
// of additions alone, and tend its own copy.

const (
	auditRows     = "gatehouse_audit_append_only"
	auditTruncate = "gatehouse_audit_no_truncate"
	auditTable    = "audit_log"
	auditRest     = "audit_log_default"
)

func auditGuardFunction() function {
	return function{name: auditGuard, returns: asTrigger, path: trustedPath, body: `
  IF TG_OP = 'DELETE' AND current_setting('gatehouse.audit_tend', true) = 'on' AND OLD.at < now() - interval '1 day' THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'audit_log is append-only: no % of its rows', TG_OP USING ERRCODE = 'insufficient_privilege';`}
}

// auditTendFunction makes the partitions of this month and the next two, and drops
// what is older than retention (NULL: nothing): whole months, and rows of the default
// partition a thousand at a time. It says how many partitions it made, how many it
// dropped and how many rows it deleted.
//
// SECURITY DEFINER because making and dropping tables takes their owner, which the
// login service need not be; whoever may call it may shorten the log. It waits for
// nobody: a partition that cannot be made or dropped now, because somebody reads the
// log, is for the next time.
func auditTendFunction(ownPath string) function {
	return function{
		name: auditTend, in: "interval", takes: "retention interval, OUT made int, OUT dropped int, OUT deleted int",
		path: ownPath, definer: true, private: true,
		sets: []string{"gatehouse.audit_tend = 'on'", "lock_timeout = '200ms'"},
		declare: `
DECLARE
  month timestamptz;
  ends  timestamptz;
  name  text;
  part  record;`,
		body: fmt.Sprintf(`
  made := 0; dropped := 0; deleted := 0;
  -- One at a time; the others come again.
  IF NOT pg_try_advisory_xact_lock(7305411920644288) THEN
    RETURN;
  END IF;
  FOR n IN 0..2 LOOP
    month := (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month') AT TIME ZONE 'UTC';
    ends  := (date_trunc('month', now() AT TIME ZONE 'UTC') + (n + 1) * interval '1 month') AT TIME ZONE 'UTC';
    name  := 'audit_log_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
    CONTINUE WHEN to_regclass(name) IS NOT NULL
      -- What lies in the default partition already stays there.
      OR EXISTS (SELECT FROM audit_log_default d WHERE d.at >= month AND d.at < ends);
    BEGIN
      EXECUTE format('CREATE TABLE %%I PARTITION OF audit_log FOR VALUES FROM (%%L) TO (%%L)', name, month, ends);
      EXECUTE format('CREATE TRIGGER %[1]s BEFORE TRUNCATE ON %%I FOR EACH STATEMENT EXECUTE FUNCTION %[3]s()', name);
      EXECUTE format('ALTER TABLE %%I ENABLE ALWAYS TRIGGER %[1]s, ENABLE ALWAYS TRIGGER %[2]s', name);
      made := made + 1;
    EXCEPTION WHEN lock_not_available OR deadlock_detected OR check_violation THEN
      NULL;
    END;
  END LOOP;
  IF retention IS NULL THEN
    RETURN;
  END IF;
  FOR part IN
    SELECT c.relname, (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' AS over
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'audit_log'::regclass AND c.relname ~ '^audit_log_[0-9]{4}_[0-9]{2}$'
  LOOP
    CONTINUE WHEN part.over >= now() - greatest(retention, interval '1 day');
    BEGIN
      EXECUTE format('DROP TABLE %%I', part.relname);
      dropped := dropped + 1;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      NULL;
    END;
  END LOOP;
  DELETE FROM audit_log_default d WHERE (d.at, d.id) IN (
    SELECT at, id FROM audit_log_default WHERE at < now() - greatest(retention, interval '1 day') LIMIT 1000);
  GET DIAGNOSTICS deleted = ROW_COUNT;`, auditTruncate, auditRows, auditGuard),
	}
}

// guardsSQL finds the triggers $1 and $2 that are not as they should be, on the log
// $3 and on its partitions, the whole first. tgtype: 27 is BEFORE UPDATE OR DELETE for
// each row, 34 BEFORE TRUNCATE.
const guardsSQL = `
SELECT l.relid::regclass::text, l.level > 0, w.name,
       CASE WHEN t.oid IS NULL THEN '` + missing + `'
            WHEN t.tgtype <> w.kind OR t.tgfoid <> coalesce(to_regprocedure('` + auditGuard + `()'), 0) OR t.tgqual IS NOT NULL OR t.tgattr::text <> '' THEN 'altered'
            ELSE '` + notAlways + `' END AS why
  FROM pg_partition_tree(to_regclass($3)) l
 CROSS JOIN (VALUES (1, $1::text, 27), (2, $2::text, 34)) w (n, name, kind)
  LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = l.relid AND t.tgname = w.name
 WHERE t.oid IS NULL OR t.tgenabled <> 'A' OR t.tgtype <> w.kind OR t.tgqual IS NOT NULL OR t.tgattr::text <> ''
    OR t.tgfoid <> coalesce(to_regprocedure('` + auditGuard + `()'), 0)
 ORDER BY l.level, l.relid::regclass::text, w.n`

// guard is one of those triggers.
type guard struct {
	trigger
	partition bool
	why       string
}

func (g guard) broken() Broken {
	if g.partition {
		return Broken{Name: g.name + " on " + g.table, Why: g.why}
	}
	return Broken{Name: g.name, Why: g.why}
}

// rowsQuerier is what a connection and a transaction have in common.
type rowsQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// brokenGuards finds what does not keep the log append-only.
func brokenGuards(ctx context.Context, db rowsQuerier) (found []guard, err error) {
	rows, err := db.QueryContext(ctx, guardsSQL, auditRows, auditTruncate, auditTable)
	if err != nil {
		return nil, fmt.Errorf("looking at the triggers of the audit log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		g := guard{trigger: trigger{moment: before, event: "UPDATE OR DELETE", function: auditGuard}}
		if err := rows.Scan(&g.table, &g.partition, &g.name, &g.why); err != nil {
			return nil, fmt.Errorf("looking at the triggers of the audit log: %w", err)
		}
		if g.name == auditTruncate {
			g.event = onTruncate
		}
		found = append(found, g)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("looking at the triggers of the audit log: %w", err)
	}
	return found, nil
}

// remakeGuards puts them back. A trigger that is only not ALWAYS is not made anew:
// whoever reads the log holds that up, and it would hold up who writes to it.
func remakeGuards(ctx context.Context, tx *sql.Tx) error {
	// Making the one for rows makes its copies, which then need their turn.
	for range 2 {
		found, err := brokenGuards(ctx, tx)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, g := range found {
			statements := g.sql()
			switch {
			case g.why == notAlways:
				statements = []string{g.always()}
			case g.partition && g.name == auditRows:
				continue // comes with that of the whole
			}
			for _, statement := range statements {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("making the trigger %s: %w", g.broken().Name, err)
				}
			}
		}
	}
	return nil
}

// restSQL finds what has become of $2, the partition of $1 that takes what no month
// does. Without it nothing makes the months to come, and once the last that there is
// has passed, nobody can log in.
const restSQL = `
SELECT CASE WHEN p.partdefid <> 0 THEN '` + renamed + `' WHEN to_regclass($2) IS NULL THEN '` + missing + `' ELSE '` + detached + `' END,
       p.partdefid::regclass::text
  FROM pg_catalog.pg_partitioned_table p
 WHERE p.partrelid = to_regclass($1) AND (p.partdefid = 0 OR p.partdefid <> coalesce(to_regclass($2), 0))`

const (
	renamed  = "renamed"
	detached = "detached"
)

// brokenRest is why that partition is not where it should be, and its present name.
func brokenRest(ctx context.Context, db rowsQuerier) (found *Broken, now string, err error) {
	var why string
	switch err := db.QueryRowContext(ctx, restSQL, auditTable, auditRest).Scan(&why, &now); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("looking at the partitions of the audit log: %w", err)
	}
	return &Broken{Name: auditRest, Why: why}, now, nil
}

// remakeRest puts it back, before its triggers.
func remakeRest(ctx context.Context, tx *sql.Tx) error {
	found, now, err := brokenRest(ctx, tx)
	if err != nil || found == nil {
		return err
	}
	statement := "CREATE TABLE " + auditRest + " PARTITION OF " + auditTable + " DEFAULT"
	switch found.Why {
	case renamed: // regclass is quoted where it has to be
		statement = "ALTER TABLE " + now + " RENAME TO " + auditRest
	case detached:
		statement = "ALTER TABLE " + auditTable + " ATTACH PARTITION " + auditRest + " DEFAULT"
	}
	if _, err := tx.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("making the partition %s: %w", auditRest, err)
	}
	return nil
}
