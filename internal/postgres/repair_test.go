package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/postgres"
)

func TestMigratePutsBackTriggersAndFunctions(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	version := db.migrate().Version
	partitions := strings.Fields(db.one(`SELECT string_agg(relid::regclass::text, ' ' ORDER BY relid::regclass::text) FROM pg_partition_tree('audit_log') WHERE isleaf`))
	each := func(why string, triggers ...string) (out []string) {
		for _, partition := range partitions {
			for _, trigger := range triggers {
				out = append(out, trigger+" on "+partition+why)
			}
		}
		return out
	}
	const silence = `RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`
	for _, c := range []struct {
		name, breaks string
		want         []string
	}{
		{"nothing is broken", `SELECT`, nil},
		{"all triggers of a table were off for a while", `ALTER TABLE users DISABLE TRIGGER ALL; ALTER TABLE users ENABLE TRIGGER ALL`, []string{
			"gatehouse_users_changed (not ENABLE ALWAYS)", "gatehouse_users_came_or_went (not ENABLE ALWAYS)",
			"gatehouse_users_truncated (not ENABLE ALWAYS)", "gatehouse_users_moved (not ENABLE ALWAYS)",
			"gatehouse_users_unverified (not ENABLE ALWAYS)",
		}},
		{"a verified address is kept", `CREATE OR REPLACE FUNCTION gatehouse_address_moved() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`,
			[]string{"gatehouse_address_moved (altered)"}},
		{"all triggers of the audit log were off for a while", `ALTER TABLE audit_log DISABLE TRIGGER ALL; ALTER TABLE audit_log ENABLE TRIGGER ALL`,
			append([]string{"gatehouse_audit_append_only (not ENABLE ALWAYS)", "gatehouse_audit_no_truncate (not ENABLE ALWAYS)"},
				each(" (not ENABLE ALWAYS)", "gatehouse_audit_append_only")...)},
		{"the audit log can be changed", `DROP TRIGGER gatehouse_audit_append_only ON audit_log`,
			append([]string{"gatehouse_audit_append_only (missing)"}, each(" (missing)", "gatehouse_audit_append_only")...)},
		{"a part of the audit log can be", `ALTER TABLE audit_log_default DISABLE TRIGGER ALL`, []string{
			"gatehouse_audit_append_only on audit_log_default (not ENABLE ALWAYS)", "gatehouse_audit_no_truncate on audit_log_default (not ENABLE ALWAYS)",
		}},
		{"a part of it can be truncated", `DROP TRIGGER gatehouse_audit_no_truncate ON audit_log_default`,
			[]string{"gatehouse_audit_no_truncate on audit_log_default (missing)"}},
		{"the audit log can be changed by some", `DROP TRIGGER gatehouse_audit_no_truncate ON audit_log;
			CREATE TRIGGER gatehouse_audit_no_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT WHEN (current_user <> 'x') EXECUTE FUNCTION gatehouse_audit_is_append_only();
			ALTER TABLE ONLY audit_log ENABLE ALWAYS TRIGGER gatehouse_audit_no_truncate`, []string{"gatehouse_audit_no_truncate (altered)"}},
		{"what guards the audit log lets everything pass", `CREATE OR REPLACE FUNCTION gatehouse_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'`,
			[]string{"gatehouse_audit_is_append_only (altered)"}},
		{"what guards the audit log is gone", `DROP FUNCTION gatehouse_audit_is_append_only CASCADE`, append([]string{
			"gatehouse_audit_is_append_only (missing)", "gatehouse_audit_append_only (missing)", "gatehouse_audit_no_truncate (missing)",
		}, each(" (missing)", "gatehouse_audit_append_only", "gatehouse_audit_no_truncate")...)},
		{"the part of it for what no month takes is gone", `DROP TABLE audit_log_default`, []string{"audit_log_default (missing)"}},
		{"that part was taken off", `ALTER TABLE audit_log DETACH PARTITION audit_log_default`, []string{"audit_log_default (detached)"}},
		{"that part has another name", `ALTER TABLE audit_log_default RENAME TO "The rest"`, []string{"audit_log_default (renamed)"}},
		{"a month of the audit log was made by hand", `CREATE TABLE audit_log_2001_01 PARTITION OF audit_log FOR VALUES FROM ('2001-01-01Z') TO ('2001-02-01Z')`,
			[]string{"gatehouse_audit_no_truncate on audit_log_2001_01 (missing)"}},
		{"and is away again", `DROP TABLE audit_log_2001_01`, nil},
		{"what tends the audit log keeps nothing", `CREATE OR REPLACE FUNCTION gatehouse_audit_tend(retention interval, OUT made int, OUT dropped int, OUT deleted int) LANGUAGE plpgsql AS 'BEGIN DROP TABLE audit_log; END'`,
			[]string{"gatehouse_audit_tend (altered)"}},
		{"what tends the audit log is gone", `DROP FUNCTION gatehouse_audit_tend`, []string{"gatehouse_audit_tend (missing)"}},
		{"a trigger is gone", `DROP TRIGGER gatehouse_members_changed ON company_members`, []string{"gatehouse_members_changed (missing)"}},
		{"a trigger looks away", `DROP TRIGGER gatehouse_companies_changed ON companies;
			CREATE TRIGGER gatehouse_companies_changed AFTER UPDATE ON companies FOR EACH ROW WHEN (false) EXECUTE FUNCTION gatehouse_notice_company();
			ALTER TABLE companies ENABLE ALWAYS TRIGGER gatehouse_companies_changed`, []string{"gatehouse_companies_changed (altered)"}},
		{"a function says nothing", `CREATE OR REPLACE FUNCTION gatehouse_notice_user() ` + silence, []string{"gatehouse_notice_user (altered)"}},
		{"a function is made by another hand", `ALTER FUNCTION gatehouse_notice_user() RENAME TO elsewhere; CREATE FUNCTION gatehouse_notice_user() ` + silence,
			[]string{"gatehouse_notice_user (altered)", "gatehouse_users_changed (altered)", "gatehouse_users_came_or_went (altered)"}},
		{"a function is gone, with its triggers", `DROP FUNCTION gatehouse_notice_session CASCADE`, []string{
			"gatehouse_notice_session (missing)", "gatehouse_sessions_changed (missing)", "gatehouse_sessions_went (missing)",
		}},
		{"the functions are an older release's", `DO $$ BEGIN EXECUTE 'COMMENT ON FUNCTION gatehouse_company_moved() IS ''made by gatehouse migrate: 0'''; END $$`,
			[]string{"gatehouse_company_moved (altered)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(c.breaks)
			if diff := cmp.Diff(c.want, spelt(db.status().Broken)); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			result := db.migrate()
			if diff := cmp.Diff(c.want, spelt(result.Repaired)); diff != "" {
				t.Errorf("repaired (-want +got):\n%s", diff)
			}
			if result.Version != version || len(result.Applied) != 0 {
				t.Errorf("result = %+v, want nothing else done", result)
			}
			if broken := db.status().Broken; len(broken) != 0 {
				t.Errorf("after it: %v", broken)
			}
			for _, sql := range []string{`UPDATE audit_log SET event = 'other'`, `DELETE FROM audit_log`, `TRUNCATE audit_log`, `TRUNCATE audit_log_default`} {
				if got := db.tried(`INSERT INTO audit_log (event, outcome) VALUES ('e', 'success'); SET LOCAL session_replication_role = replica; ` + sql); got != "append-only" {
					t.Errorf("after it, %s: %s", sql, got)
				}
			}
			if got := db.one(`SELECT proacl::text NOT LIKE '%{=X%' AND proacl::text NOT LIKE '%,=X%' FROM pg_proc WHERE proname = 'gatehouse_audit_tend'`); got != "true" {
				t.Error("everybody may shorten the log")
			}
			if got := db.tried(`SELECT gatehouse_audit_tend('1 day')`); got != "done" {
				t.Errorf("after it, the log is tended: %s", got)
			}
		})
	}

	// Somebody without rights finds nothing to do where there is nothing to do.
	const everything = `SELECT string_agg(concat_ws(' ', oid, xmin), ',' ORDER BY oid) FROM pg_trigger WHERE NOT tgisinternal`
	before := db.one(everything)
	db.migrate()
	if db.one(everything) != before {
		t.Error("triggers that were as they should be were made anew")
	}
}

func spelt(list []postgres.Broken) []string {
	var out []string
	for _, b := range list {
		out = append(out, fmt.Sprint(b))
	}
	return out
}

// A database of the release before, whose triggers and functions know no seal.
func TestMigrateBringsAnOlderReleasesNoticesUpToDate(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	version := db.migrate().Version
	db.addUser(userID(1), "ada@example.com", companyID(1))
	db.exec(`DELETE FROM gatehouse_migrations WHERE version_id >= 2`)
	db.exec(`DROP TABLE gatehouse_replicas, gatehouse_fence, login_throttle, login_known_sources, audit_log, refresh_tokens, one_time_tokens;
		DROP FUNCTION gatehouse_audit_is_append_only, gatehouse_audit_tend;
		DROP INDEX sessions_ended_idx, company_invitations_company_idx, company_invitations_due_idx`)
	e, _ := replica(t, db.url, "early:1", nil)
	result := db.migrate()
	if len(result.Applied) != int(version)-1 || result.Version != version || len(result.Repaired) != 0 {
		t.Errorf("result = %+v, want all but the first migration", result)
	}
	if status := db.status(); len(status.Broken) != 0 {
		t.Errorf("status = %+v", status)
	}
	// authz that was started before it trusts it now, without a restart.
	e.settle(t)
	e.heard()
	db.exec(`UPDATE users SET is_active = false`)
	e.sync(t, db)
	if got := e.heard(); got != "u:"+userID(1).String() {
		t.Errorf("heard %q", got)
	}
}

func TestMigrateThatCannotPutBackATriggerNamesTheHolder(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.migrate()
	db.exec(`DROP TRIGGER gatehouse_sessions_went ON sessions`)
	holder := connect(t, db.url)
	holder.exec(`BEGIN; LOCK TABLE sessions IN ACCESS SHARE MODE`)
	_, err := postgres.Migrate(testContext(t), db.patient(), postgres.MigrateOptions{LockWait: time.Millisecond})
	if err != nil {
		t.Errorf("a reader held up a trigger that is missing: %v", err)
	}
	db.exec(`ALTER TABLE sessions DISABLE TRIGGER gatehouse_sessions_went`)
	holder.exec(`ROLLBACK; BEGIN; LOCK TABLE sessions IN ROW EXCLUSIVE MODE`)
	_, err = postgres.Migrate(testContext(t), db.patient(), postgres.MigrateOptions{LockWait: time.Millisecond})
	if !errors.Is(err, postgres.ErrLocked) || !strings.Contains(err.Error(), "idle in transaction") {
		t.Errorf("err = %v", err)
	}
	holder.exec(`ROLLBACK`)
	if result := db.migrate(); len(result.Repaired) != 1 {
		t.Errorf("result = %+v", result)
	}
}

// An upgrade waits for nobody who only reads, however long that takes.
func TestMigrateFromTheReleaseBeforeHoldsUpNoReader(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	version := db.migrate().Version
	// What that release left: no trigger of verified addresses, and an audit log whose
	// triggers and functions were ordinary and not sealed.
	db.exec(`DELETE FROM gatehouse_migrations WHERE version_id = 9;
		DROP FUNCTION gatehouse_address_moved CASCADE;
		COMMENT ON FUNCTION gatehouse_audit_is_append_only() IS NULL; COMMENT ON FUNCTION gatehouse_audit_tend(interval) IS NULL;
		ALTER TABLE audit_log DISABLE TRIGGER ALL; ALTER TABLE audit_log ENABLE TRIGGER ALL`)
	for _, partition := range strings.Fields(db.one(`SELECT string_agg(relid::regclass::text, ' ') FROM pg_partition_tree('audit_log') WHERE isleaf`)) {
		db.exec(`ALTER TABLE ` + partition + ` DISABLE TRIGGER ALL; ALTER TABLE ` + partition + ` ENABLE TRIGGER ALL`)
	}
	reader := connect(t, db.url)
	reader.exec(`BEGIN; SELECT count(*) FROM audit_log; SELECT count(*) FROM users; SELECT count(*) FROM sessions`)
	defer reader.exec(`ROLLBACK`)
	result, err := postgres.Migrate(testContext(t), db.patient(), postgres.MigrateOptions{LockWait: time.Millisecond})
	if err != nil || len(result.Applied) != 1 || result.Version != version {
		t.Fatalf("result = %+v, %v", result, err)
	}
	if status := db.status(); len(status.Broken)+len(status.Pending) != 0 {
		t.Errorf("status = %+v", status)
	}
}
