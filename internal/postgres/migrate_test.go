package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// ours counts everything that a migration leaves behind.
const ours = `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
	WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
	  AND (relname LIKE 'gatehouse%' OR relname LIKE 'compan%' OR relname LIKE 'session%' OR relname = 'users_email_fold_key')`

func TestMigrateMakesEverythingInAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	result := db.migrate()
	if len(result.Applied) == 0 || result.Version != result.Applied[len(result.Applied)-1].Version || result.Schema != "public" {
		t.Errorf("result = %+v", result)
	}
	for _, table := range []string{"users", "companies", "company_members", "company_invitations", "sessions", "gatehouse_replicas", "gatehouse_fence", "audit_log"} {
		if db.one(`SELECT to_regclass($1)`, table) != table {
			t.Errorf("no table %s", table)
		}
	}
	// The defaults are what plain SQL of an operator relies upon.
	db.exec(`INSERT INTO users (email) VALUES ('ada@example.com')`)
	got := db.one(`SELECT concat_ws(' ', id IS NOT NULL, role, is_active, created_at = updated_at, last_login IS NULL) FROM users`)
	if got != "t user t t t" {
		t.Errorf("defaults of a new row = %s", got)
	}
	version := result.Version
	if again := db.migrate(); len(again.Applied) != 0 || again.Version != version {
		t.Errorf("second run = %+v, want nothing applied", again)
	}
	status, err := postgres.Status(testContext(t), db.url)
	if err != nil {
		t.Fatal(err)
	}
	if status.Version != version || status.Latest != version || len(status.Pending)+len(status.Missing)+len(status.Broken) != 0 || status.Server == "" {
		t.Errorf("status = %+v", status)
	}
	db.exec(`DROP TABLE sessions`)
	if status, err = postgres.Status(testContext(t), db.url); err != nil || !cmp.Equal(status.Missing, []string{"sessions"}) {
		t.Errorf("status after DROP TABLE sessions = %+v, %v", status, err)
	}
}

func TestStatusOfANewDatabaseChangesNothing(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	status, err := postgres.Status(testContext(t), db.url)
	if err != nil || status.Version != 0 || len(status.Pending) < 3 ||
		!cmp.Equal(status.Pending[:3], []string{"00001_identity", "00002_notices", "00003_replicas"}) {
		t.Errorf("status = %+v, %v", status, err)
	}
	if got := db.one(ours); got != "NULL" {
		t.Errorf("Status left %s", got)
	}
}

// M12: no row is written anew, and no file.
func TestMigrateAdoptsRowsWithoutTouchingThem(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	db.exec(`CREATE TABLE companies (id uuid PRIMARY KEY, name varchar(20))`)
	db.exec(`INSERT INTO users SELECT gen_random_uuid(), CASE WHEN n % 5 > 0 THEN ('cccccccc-0000-4000-8000-' || lpad((n % 5)::text, 12, '0'))::uuid END,
		CASE WHEN n > 3 THEN 'User' || n || '@Example.com' END, NULL, NULL, CASE WHEN n > 9 THEN 'admin' END, now(), now(), NULL,
		CASE n % 3 WHEN 0 THEN true WHEN 1 THEN false END FROM generate_series(1, 1000) n`)
	db.exec(`INSERT INTO companies VALUES ($1, 'Twice'), ($2, 'Twice'), (gen_random_uuid(), NULL), (gen_random_uuid(), '')`,
		companyID(1).String(), companyID(2).String())
	const fingerprint = `SELECT concat_ws(' ', pg_relation_filenode('users'), pg_relation_filenode('companies'),
		(SELECT md5(string_agg(ctid::text || xmin::text || id || coalesce(company_id::text, '-') || coalesce(email, '-') || coalesce(role, '-')
			|| coalesce(is_active::text, '-'), ',' ORDER BY id)) FROM users),
		(SELECT md5(string_agg(ctid::text || xmin::text || id || coalesce(name, '-'), ',' ORDER BY id)) FROM companies
		  WHERE coalesce(name, '') IN ('', 'Twice')))`
	before := db.one(fingerprint)
	result := db.migrate()
	if after := db.one(fingerprint); after != before {
		t.Errorf("rows or files changed:\nbefore %s\nafter  %s", before, after)
	}
	if len(result.Warnings) != 0 {
		t.Errorf("warnings = %q", result.Warnings)
	}
	if got := db.one(`SELECT count(*) FROM companies`); got != "6" {
		t.Errorf("companies = %s, want the four adopted and the two that users name", got)
	}
	missing := db.one(`SELECT count(*) FROM users u WHERE company_id IS NOT NULL AND NOT EXISTS (SELECT FROM companies c WHERE c.id = u.company_id AND c.is_active)`)
	if missing != "0" {
		t.Errorf("%s users are in a company without an active row", missing)
	}
}

func TestMigrateAdoptsWhatDiffersHarmlessly(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string][]string{
		"companies without a key":       {legacyUsers, `CREATE TABLE companies (id uuid, name text)`, `INSERT INTO companies VALUES (gen_random_uuid(), repeat(md5(random()::text), 400))`},
		"varchar, timestamp and extras": {`CREATE TABLE users (id uuid PRIMARY KEY, company_id uuid, email varchar(255) UNIQUE, hashed_password varchar(255), full_name varchar(50), role varchar(20), created_at timestamp, updated_at timestamp, last_login timestamp, is_active boolean DEFAULT true, phone text)`, `CREATE INDEX ix_users_email ON users (email)`},
		"no companies table":            {legacyUsers, `INSERT INTO users (id, company_id, email) VALUES (gen_random_uuid(), gen_random_uuid(), 'a@example.com')`},
		"the index of a restored table": {legacyUsers, `CREATE UNIQUE INDEX users_email_fold_key ON users (lower(email COLLATE "C"))`, `ALTER TABLE users ADD tokens_valid_after timestamptz`},
		"a domain over text":            {`CREATE DOMAIN address AS text`, strings.Replace(legacyUsers, "email text", "email address", 1)},
		"another schema that comes first": {`CREATE SCHEMA app`, strings.Replace(legacyUsers, "TABLE users", "TABLE app.users", 1),
			`CREATE VIEW public.users AS SELECT 1 AS id`,
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = app, public', current_database()); END $$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t)
			for _, sql := range setup {
				db.exec(sql)
			}
			if result := db.migrate(); len(result.Applied) == 0 {
				t.Errorf("result = %+v", result)
			}
			// The adopted table serves: a user can be made, found and moved.
			fresh := connect(t, db.url)
			store := fresh.open(postgres.Options{MaxConns: 2})
			company, err := store.CreateCompany(testContext(t), "New")
			if err != nil {
				t.Fatal(err)
			}
			made, err := store.CreateUser(testContext(t), account("new@example.com", company.ID))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := store.FindUser(testContext(t), "NEW@example.com"); err != nil || got != made {
				t.Errorf("FindUser = %+v, %v, want %+v", got, err, made)
			}
			if s, err := store.Standing(testContext(t), made.ID, sessionID(1), identity.CompanyID{}); err != nil || len(s.Memberships) != 1 || !s.Active {
				t.Errorf("Standing = %+v, %v", s, err)
			}
			// The trigger must find its table whatever the caller's search_path is.
			fresh.exec(`SET search_path = pg_catalog`)
			schema := fresh.one(`SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = 'company_members'`)
			fresh.exec(`UPDATE ` + schema + `.users SET company_id = NULL`)
		})
	}
}

func TestMigrateWarnsOfAColumnTooNarrowForNewHashes(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(strings.Replace(legacyUsers, "hashed_password text", "hashed_password varchar(60)", 1))
	if result := db.migrate(); len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "users.hashed_password") {
		t.Errorf("warnings = %q", result.Warnings)
	}
}

func TestMigrateWarnsOfColumnsThatNewRowsCannotFill(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	db.exec(`ALTER TABLE users ADD phone text NOT NULL, ADD serial_number int GENERATED ALWAYS AS IDENTITY, ADD plan text NOT NULL DEFAULT 'free'`)
	db.exec(`CREATE TABLE companies (id uuid PRIMARY KEY, name text, slug text NOT NULL)`)
	result := db.migrate()
	want := []string{
		"users.phone is NOT NULL without a default: Gatehouse cannot add rows there",
		"companies.slug is NOT NULL without a default: Gatehouse cannot add rows there",
	}
	if diff := cmp.Diff(want, result.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestMigrateRefusesOtherShapesAndChangesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setup []string
		want  []string
	}{
		"every difference is named at once": {
			setup: []string{`CREATE TABLE users (id text PRIMARY KEY, email text, hashed_password bytea, role text, created_at timestamptz, updated_at date, is_active int)`,
				`CREATE TABLE companies (id bigint, is_active text)`, `CREATE TABLE sessions (id text)`},
			want: []string{
				"users.id is text, not uuid", "users.company_id is missing (uuid)", "users.hashed_password is bytea, not text or varchar",
				"users.full_name is missing (text)", "users.updated_at is date, not timestamptz or timestamp",
				"users.last_login is missing (timestamptz)", "users.is_active is integer, not bool",
				"companies.id is bigint, not uuid", "companies.name is missing (text)", "companies.is_active is text, not bool",
				"a relation named sessions exists and was not made by Gatehouse",
			},
		},
		"an id that is not unique": {
			setup: []string{strings.Replace(legacyUsers, "PRIMARY KEY", "", 1)},
			want:  []string{"users.id is neither the primary key nor unique"},
		},
		"a view": {
			setup: []string{strings.Replace(legacyUsers, "users", "people", 1), `CREATE VIEW users AS SELECT * FROM people`},
			want: []string{"users is not an ordinary table (a view, a foreign or a partitioned table)",
				"users.id is neither the primary key nor unique"},
		},
		"a time without zone that judges tokens": {
			setup: []string{legacyUsers, `ALTER TABLE users ADD tokens_valid_after timestamp`},
			want:  []string{"users.tokens_valid_after is timestamp without time zone, not timestamptz"},
		},
		"an index of our name that is another": {
			setup: []string{legacyUsers, `CREATE UNIQUE INDEX users_email_fold_key ON users (lower(email))`},
			want:  []string{"a relation named users_email_fold_key exists and is not the unique index on the folded email"},
		},
		"companies that must get a row and cannot": {
			setup: []string{legacyUsers, `CREATE TABLE companies (id uuid PRIMARY KEY, name text, slug text NOT NULL)`,
				`INSERT INTO users (id, company_id) VALUES (gen_random_uuid(), gen_random_uuid())`},
			want: []string{"1 companies that users name have no row, and none can be added: companies.slug is NOT NULL without a default"},
		},
		"a table in a schema that is searched first": {
			setup: []string{legacyUsers, `CREATE SCHEMA app`, `CREATE TABLE app.sessions (id int)`,
				`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = app, public', current_database()); END $$`},
			want: []string{`app.sessions comes before the schema "public", which holds users, in the search_path`},
		},
		"an email that no index entry holds": {
			setup: []string{legacyUsers, `INSERT INTO users (id, email) SELECT gen_random_uuid(), string_agg(md5(n::text), '') FROM generate_series(1, 200) n`},
			want:  []string{"1 rows of users have an email of more than 2000 bytes"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t)
			for _, sql := range c.setup {
				db.exec(sql)
			}
			const everything = `SELECT md5(string_agg(relname || relfilenode || relnatts, ',' ORDER BY oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace`
			before := db.one(everything)
			_, err := postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{})
			var got *postgres.ShapeError
			if !errors.As(err, &got) {
				t.Fatalf("err = %v, want a ShapeError", err)
			}
			if diff := cmp.Diff(c.want, got.Differences); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			if after := db.one(everything); after != before {
				t.Errorf("something was changed: %s", db.one(ours))
			}
		})
	}
}

func TestMigrateListsEmailsInConflictAndChangesNothing(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	add := func(n int, email any) {
		db.exec(`INSERT INTO users (id, email) VALUES ($1, $2)`, userID(n).String(), email)
	}
	add(1, "ada@example.com")
	add(2, "ADA@example.com")
	add(3, "Ada@Example.com")
	add(4, "bob@example.com")
	add(5, "\u212aim@example.com") // the Kelvin sign is no k
	add(6, "kim@example.com")
	add(7, "\u0130da@example.com") // the dotted capital I is no i
	add(8, "ida@example.com")
	add(9, nil)
	add(10, nil)
	_, err := postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{})
	var got *postgres.EmailConflictError
	if !errors.As(err, &got) {
		t.Fatalf("err = %v, want an EmailConflictError", err)
	}
	want := []postgres.EmailConflict{
		{ID: userID(1).String(), Email: "ada@example.com"},
		{ID: userID(2).String(), Email: "ADA@example.com"},
		{ID: userID(3).String(), Email: "Ada@Example.com"},
	}
	if diff := cmp.Diff(want, got.Rows); diff != "" || got.Total != 3 {
		t.Errorf("total %d, conflicts (-want +got):\n%s", got.Total, diff)
	}
	for _, row := range want {
		if !strings.Contains(err.Error(), row.ID) || !strings.Contains(err.Error(), row.Email) {
			t.Errorf("the message does not name %v:\n%v", row, err)
		}
	}
	if left := db.one(ours); left != "NULL" {
		t.Errorf("left behind: %s", left)
	}

	db.exec(`INSERT INTO users (id, email) SELECT gen_random_uuid(), CASE n % 2 WHEN 0 THEN 'x' ELSE 'X' END || n / 2 FROM generate_series(0, 299) n`)
	_, err = postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{})
	if !errors.As(err, &got) || got.Total != 303 || len(got.Rows) != 100 || !strings.Contains(err.Error(), "and 203 more") {
		t.Errorf("a long list: total %d, rows %d", got.Total, len(got.Rows))
	}

	db.exec(`DELETE FROM users WHERE email IN ('ADA@example.com', 'Ada@Example.com') OR email ~ '^X'`)
	db.migrate()
}

func TestMigrateFromManyReplicasAtOnce(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	results := make([]postgres.MigrateResult, 4)
	errs := make([]error, 4)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			results[i], errs[i] = postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{})
		})
	}
	all.Wait()
	applied := 0
	for i, r := range results {
		if errs[i] != nil {
			t.Errorf("replica %d: %v", i, errs[i])
		}
		if len(r.Applied) > 0 {
			applied++
		}
	}
	if applied != 1 {
		t.Errorf("%d replicas applied the migrations, want 1", applied)
	}
}

func TestMigrateRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.migrate()
	db.exec(`INSERT INTO gatehouse_migrations (version_id, is_applied) VALUES (9999, true)`)
	if _, err := postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{}); !errors.Is(err, postgres.ErrSchemaNewer) ||
		!strings.Contains(err.Error(), "9999") {
		t.Errorf("err = %v", err)
	}
}

func TestMigrateGivesUpOnALockedTableAndNamesTheHolder(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	tx, err := connect(t, db.url).conn.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(testContext(t), `INSERT INTO users (id) VALUES (gen_random_uuid())`); err != nil {
		t.Fatal(err)
	}
	_, err = postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{LockWait: time.Millisecond})
	if !errors.Is(err, postgres.ErrLocked) || !strings.Contains(err.Error(), "idle in transaction") {
		t.Errorf("err = %v", err)
	}
	if left := db.one(ours); left != "NULL" {
		t.Errorf("left behind: %s", left)
	}
	if err := tx.Rollback(testContext(t)); err != nil {
		t.Fatal(err)
	}
	db.migrate()
}

func TestMigrateSaysWhichRightIsMissing(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(legacyUsers)
	role := "clerk_" + strings.ReplaceAll(fmt.Sprint(time.Now().UnixNano()), "-", "")
	db.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'test-secret-of-the-clerk'`)
	db.exec(`GRANT SELECT ON users TO ` + role)
	t.Cleanup(func() { // a role outlives the test's database otherwise
		_, _ = db.conn.Exec(context.Background(), `DROP OWNED BY `+role)
		_, _ = db.conn.Exec(context.Background(), `DROP ROLE `+role)
	})
	cfg, err := pgx.ParseConfig(db.url)
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("host=%s port=%d user=%s password=test-secret-of-the-clerk dbname=%s sslmode=disable", cfg.Host, cfg.Port, role, cfg.Database)
	_, err = postgres.Migrate(testContext(t), url, postgres.MigrateOptions{})
	if err == nil || !strings.Contains(err.Error(), "must run as the owner of users") || strings.Contains(err.Error(), "test-secret") {
		t.Errorf("err = %v", err)
	}
	if left := db.one(ours); left != "NULL" {
		t.Errorf("left behind: %s", left)
	}
}

// A later migration does not take over what somebody else has made meanwhile.
func TestALaterMigrationStopsAtATableOfAnothers(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.migrate()
	db.exec(`DROP TABLE audit_log, refresh_tokens, one_time_tokens; DELETE FROM gatehouse_migrations WHERE version_id >= 5; CREATE TABLE audit_log (theirs int)`)
	_, err := postgres.Migrate(testContext(t), db.url, postgres.MigrateOptions{})
	var shape *postgres.ShapeError
	if !errors.As(err, &shape) || !cmp.Equal(shape.Differences, []string{"a relation named audit_log exists and was not made by Gatehouse"}) {
		t.Errorf("Migrate = %v", err)
	}
	if got := db.one(`SELECT max(version_id) FROM gatehouse_migrations`); got != "4" {
		t.Errorf("the database is at version %s", got)
	}
}
