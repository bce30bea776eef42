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
	const silence = `RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`
	for _, c := range []struct {
		name, breaks string
		want         []string
	}{
		{"nothing is broken", `SELECT`, nil},
		{"all triggers of a table were off for a while", `ALTER TABLE users DISABLE TRIGGER ALL; ALTER TABLE users ENABLE TRIGGER ALL`, []string{
			"gatehouse_users_changed (not ENABLE ALWAYS)", "gatehouse_users_came_or_went (not ENABLE ALWAYS)",
			"gatehouse_users_truncated (not ENABLE ALWAYS)", "gatehouse_users_moved (not ENABLE ALWAYS)",
		}},
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
			status, err := postgres.Status(testContext(t), db.url)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, spelt(status.Broken)); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			result := db.migrate()
			if diff := cmp.Diff(c.want, spelt(result.Repaired)); diff != "" {
				t.Errorf("repaired (-want +got):\n%s", diff)
			}
			if result.Version != version || len(result.Applied) != 0 {
				t.Errorf("result = %+v, want nothing else done", result)
			}
			if status, err := postgres.Status(testContext(t), db.url); err != nil || len(status.Broken) != 0 {
				t.Errorf("after it: %v, %v", status.Broken, err)
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
	if status, err := postgres.Status(testContext(t), db.url); err != nil || len(status.Broken) != 0 {
		t.Errorf("status = %+v, %v", status, err)
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
	_, err := postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{LockWait: time.Millisecond})
	if err != nil {
		t.Errorf("a reader held up a trigger that is missing: %v", err)
	}
	db.exec(`ALTER TABLE sessions DISABLE TRIGGER gatehouse_sessions_went`)
	holder.exec(`ROLLBACK; BEGIN; LOCK TABLE sessions IN ROW EXCLUSIVE MODE`)
	_, err = postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{LockWait: time.Millisecond})
	if !errors.Is(err, postgres.ErrLocked) || !strings.Contains(err.Error(), "idle in transaction") {
		t.Errorf("err = %v", err)
	}
	holder.exec(`ROLLBACK`)
	if result := db.migrate(); len(result.Repaired) != 1 {
		t.Errorf("result = %+v", result)
	}
}
