package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Who can change the log:
//
//   - The role of the services, where it does not own the tables, adds rows and reads
//     them. It has no privilege for anything else, and what it were given by mistake
//     (UPDATE, DELETE, TRUNCATE) the triggers refuse. What it may add it may also make
//     up: a service that is taken over can write false rows, and remove none.
//   - The owner is refused by the triggers too, until it takes them off or the table
//     away, which an owner can always do; so can a superuser, for whom they are not off
//     in a session that turns ordinary triggers off. gatehouse doctor tells of triggers
//     that are off, and gatehouse migrate puts them back; neither can tell what was done
//     in between, if they were put back by whoever took them off.
//
// A database in which that matters has another owner of the tables than the role of
// the services, and sends the server's own log (log_statement = ddl) somewhere else.

// tried says what became of a statement in a transaction of its own, which leaves
// nothing behind.
func (d *database) tried(sql string) string {
	d.t.Helper()
	d.exec(`BEGIN`)
	defer d.exec(`ROLLBACK`)
	_, err := d.conn.Exec(testContext(d.t), sql)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return "done"
	case !errors.As(err, &refused):
		return err.Error()
	case strings.Contains(refused.Message, "append-only"):
		return "append-only"
	default:
		return refused.Code
	}
}

// logged is a log with a row in a month of its own, one in the default partition and
// one of now.
func logged(t *testing.T) (db *database, partitions []string) {
	t.Helper()
	_, db = newStore(t)
	db.exec(`CREATE TABLE audit_log_2001_01 PARTITION OF audit_log FOR VALUES FROM ('2001-01-01Z') TO ('2001-02-01Z')`)
	db.migrate() // which puts the trigger on it that it cannot inherit
	db.exec(`INSERT INTO audit_log (at, event, outcome) VALUES ('2001-01-15Z', 'e', 'success'), ('1999-01-15Z', 'e', 'success'), (now(), 'e', 'success')`)
	partitions = strings.Fields(db.one(`SELECT string_agg(i.inhrelid::regclass::text, ' ' ORDER BY 1) FROM pg_inherits i WHERE i.inhparent = 'audit_log'::regclass`))
	if len(partitions) != 5 {
		t.Fatalf("the partitions are %q, want this month, two to come, one of old and the default", partitions)
	}
	return db, partitions
}

func TestNobodyChangesTheLogByMistake(t *testing.T) {
	t.Parallel()
	db, partitions := logged(t)
	// Even the owner, who is a superuser here, on the whole and on every part of it.
	for _, table := range append(partitions, "audit_log") {
		rows := db.one(`SELECT count(*) FROM `+table) != "0"
		for sql, want := range map[string]string{
			`UPDATE ` + table + ` SET event = 'other'`: "append-only",
			`UPDATE ` + table + ` SET at = at`:         "append-only",
			`DELETE FROM ` + table:                     "append-only",
			`MERGE INTO ` + table + ` a USING (SELECT 1) b ON true WHEN MATCHED THEN DELETE`:  "append-only",
			`SET LOCAL gatehouse.audit_tend = 'on'; UPDATE ` + table + ` SET event = 'other'`: "append-only",
			`SET CONSTRAINTS ALL DEFERRED; DELETE FROM ` + table:                              "append-only",
			`SET LOCAL session_replication_role = replica; DELETE FROM ` + table:              "append-only", // as a restore does, or an apply
			`SET LOCAL session_replication_role = replica; TRUNCATE ` + table:                 "append-only",
			`TRUNCATE ` + table: "append-only",
			`TRUNCATE ` + table + ` RESTART IDENTITY CASCADE`: "append-only",
		} {
			if !rows && !strings.Contains(sql, "TRUNCATE") {
				want = "done" // of no row
			}
			if got := db.tried(sql); got != want {
				t.Errorf("%s: %s, want %s", sql, got, want)
			}
		}
	}
	// What is a day old the setting of the tending lets go, for whoever may DELETE.
	if got := db.tried(`SET LOCAL gatehouse.audit_tend = 'on'; DELETE FROM audit_log WHERE at < '2002-01-01Z'`); got != "done" {
		t.Errorf("by the setting: %s", got)
	}
	if got := db.one(`SELECT count(*) FROM audit_log`); got != "3" {
		t.Errorf("%s rows are left of 3", got)
	}
}

func TestTheRoleOfTheServicesOnlyAddsToTheLog(t *testing.T) {
	t.Parallel()
	db, partitions := logged(t)
	const denied, notOwner = "42501", "42501"
	// Roles are of the whole server, which other tests share.
	role := "audit_service_" + db.one(`SELECT replace(gen_random_uuid()::text, '-', '_')`)
	const word = "test-password-of-the-audit-service"
	db.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD '` + word + `'; GRANT USAGE ON SCHEMA public TO ` + role + `; GRANT SELECT, INSERT ON audit_log TO ` + role +
		`; GRANT EXECUTE ON FUNCTION gatehouse_audit_tend(interval) TO ` + role)
	t.Cleanup(func() {
		if _, err := db.conn.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role); err != nil {
			t.Error(err)
		}
	})
	part := partitions[0]
	// Not by SET ROLE, which would leave a way back.
	at, err := url.Parse(db.url)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword(role, word)
	as := connect(t, at.String()).tried
	type try struct{ sql, want string }
	tries := []try{
		{`INSERT INTO audit_log (event, outcome) VALUES ('e', 'success')`, "done"},
		{`SELECT count(*) FROM audit_log`, "done"},
		// What retention takes away goes through a function that looks at nothing that a
		// caller could have prepared.
		{`SELECT gatehouse_audit_tend('1 day')`, "done"},
		{`SELECT gatehouse_audit_tend('-100 years')`, "done"}, // is a day

		{`INSERT INTO audit_log (id, event, outcome) OVERRIDING SYSTEM VALUE VALUES (1, 'e', 'success')`, "done"}, // what is added may be made up
		{`INSERT INTO audit_log (event, outcome) VALUES ('', 'success')`, "23514"},
		{`INSERT INTO audit_log (event, outcome) VALUES ('e', 'fine')`, "23514"},

		{`SET LOCAL session_replication_role = replica`, denied},
		{`ALTER TABLE audit_log DISABLE TRIGGER gatehouse_audit_append_only`, notOwner},
		{`ALTER TABLE audit_log DISABLE TRIGGER ALL`, notOwner},
		{`ALTER TABLE audit_log DISABLE TRIGGER USER`, notOwner},
		{`DROP TRIGGER gatehouse_audit_append_only ON audit_log`, notOwner},
		{`CREATE TRIGGER aaa BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`, denied},
		{`CREATE RULE aaa AS ON INSERT TO audit_log DO INSTEAD NOTHING`, notOwner},
		{`ALTER TABLE audit_log ADD COLUMN x int`, notOwner},
		{`ALTER TABLE audit_log ALTER COLUMN event TYPE varchar`, notOwner},
		{`ALTER TABLE audit_log RENAME TO other`, notOwner},
		{`ALTER TABLE audit_log OWNER TO ` + role, notOwner},
		{`ALTER TABLE audit_log DETACH PARTITION ` + part, notOwner},
		{`ALTER TABLE audit_log SET SCHEMA pg_catalog`, notOwner},
		{`DROP TABLE audit_log`, notOwner},
		{`DROP FUNCTION gatehouse_audit_is_append_only() CASCADE`, notOwner},
		{`CREATE OR REPLACE FUNCTION gatehouse_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'`, denied},
		{`ALTER FUNCTION gatehouse_audit_tend(interval) SECURITY INVOKER`, notOwner},
		{`DELETE FROM pg_trigger WHERE tgname LIKE 'gatehouse_audit%'`, denied},
		{`SET LOCAL ROLE ` + db.one(`SELECT quote_ident(tableowner) FROM pg_tables WHERE tablename = 'audit_log'`), denied},
	}
	for _, table := range append(partitions, "audit_log") {
		tries = append(tries,
			try{`UPDATE ` + table + ` SET event = 'other'`, denied},
			try{`DELETE FROM ` + table, denied},
			try{`SET LOCAL gatehouse.audit_tend = 'on'; DELETE FROM ` + table, denied},
			try{`TRUNCATE ` + table, denied},
			try{`DROP TABLE ` + table, notOwner},
			try{`ALTER TABLE ` + table + ` DISABLE TRIGGER ALL`, notOwner},
		)
	}
	for _, c := range tries {
		if got := as(c.sql); got != c.want {
			t.Errorf("%s: %s, want %s", c.sql, got, c.want)
		}
	}

	// Granted by mistake what it should not have, it is stopped by the triggers, on the
	// parts as on the whole.
	db.exec(`GRANT ALL ON audit_log, ` + strings.Join(partitions, ", ") + ` TO ` + role)
	for _, table := range []string{"audit_log", "audit_log_default", "audit_log_2001_01"} {
		for _, sql := range []string{`UPDATE ` + table + ` SET event = 'other'`, `DELETE FROM ` + table, `TRUNCATE ` + table} {
			if got := as(sql); got != "append-only" {
				t.Errorf("with every privilege, %s: %s, want append-only", sql, got)
			}
		}
	}
	if got := as(`ALTER TABLE audit_log DISABLE TRIGGER ALL`); got != notOwner {
		t.Errorf("with every privilege, the triggers: %s", got)
	}
	if got := db.one(`SELECT count(*) FROM audit_log`); got != "3" {
		t.Errorf("%s rows are left of 3", got)
	}
}

// What is left to an owner, so that nobody believes otherwise.
func TestTheOwnerOfTheLogCanOpenIt(t *testing.T) {
	t.Parallel()
	db, partitions := logged(t)
	for _, sql := range []string{
		`ALTER TABLE audit_log DISABLE TRIGGER ALL; DELETE FROM audit_log`,
		`DROP TRIGGER gatehouse_audit_append_only ON audit_log; UPDATE audit_log SET event = 'other'`,
		`ALTER TABLE audit_log DETACH PARTITION ` + partitions[0],
		`DROP TABLE ` + partitions[0],
	} {
		if got := db.tried(sql); got != "done" {
			t.Errorf("%s: %s", sql, got)
		}
	}
	// A part that was taken off the whole keeps the trigger of its own, and loses those
	// of rows, which belong to the whole.
	for _, part := range partitions {
		for sql, want := range map[string]string{
			`TRUNCATE ` + part:    "append-only",
			`DELETE FROM ` + part: "done",
		} {
			if got := db.tried(`ALTER TABLE audit_log DETACH PARTITION ` + part + `; ` + sql); got != want {
				t.Errorf("%s, detached: %s, want %s", sql, got, want)
			}
		}
	}
}
