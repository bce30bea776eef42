package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// legacyUsers is the table of contract section 10, with none of our objects.
const legacyUsers = `CREATE TABLE users (
	id uuid PRIMARY KEY, company_id uuid NULL, email text, hashed_password text, full_name text NULL, role text,
	created_at timestamptz, updated_at timestamptz, last_login timestamptz, is_active boolean)`

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// database is plain SQL beside the store, as an operator would use it.
type database struct {
	t    *testing.T
	url  string
	conn *pgx.Conn
}

// patient gives a connection more time than it has otherwise, which is what some
// tests are about and a busy machine may need.
const patient = "&connect_timeout=60"

func newDatabase(t *testing.T) *database {
	t.Helper()
	return connect(t, postgrestest.New(t)+patient)
}

func connect(t *testing.T, url string) *database {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &database{t: t, url: url, conn: conn}
}

// in is the same database for a subtest.
func (d *database) in(t *testing.T) *database { return &database{t: t, url: d.url, conn: d.conn} }

func (d *database) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.conn.Exec(testContext(d.t), sql, args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// one reads one value as its text; NULL is "NULL".
func (d *database) one(sql string, args ...any) string {
	d.t.Helper()
	var got *string
	if err := d.conn.QueryRow(testContext(d.t), `SELECT (`+sql+`)::text`, args...).Scan(&got); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	if got == nil {
		return "NULL"
	}
	return *got
}

// plan is what the planner would do.
func (d *database) plan(sql string, args ...any) string {
	d.t.Helper()
	rows, err := d.conn.Query(testContext(d.t), `EXPLAIN `+sql, args...)
	if err != nil {
		d.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func (d *database) migrate() postgres.MigrateResult {
	d.t.Helper()
	result, err := postgres.Migrate(testContext(d.t), d.patient(), postgres.MigrateOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	return result
}

// patient is the URL for what is not about time: with -race and neighbours, a machine
// may need more than the usual 2 s to let somebody in.
func (d *database) patient() string { return d.url + patient }

func (d *database) status() postgres.SchemaStatus {
	d.t.Helper()
	status, err := postgres.Status(testContext(d.t), d.patient())
	if err != nil {
		d.t.Fatal(err)
	}
	return status
}

func (d *database) open(opts postgres.Options) *postgres.Store {
	d.t.Helper()
	if opts.URL == "" {
		opts.URL = d.url
	}
	store, err := postgres.Open(testContext(d.t), opts)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(store.Close)
	return store
}

// migrated is the database as it is after all migrations.
var migrated = postgrestest.NewTemplate(func(ctx context.Context, url string) error {
	_, err := postgres.Migrate(ctx, url, postgres.MigrateOptions{})
	return err
})

// newStore is a store on a migrated database of its own.
func newStore(t *testing.T) (*postgres.Store, *database) {
	t.Helper()
	db := connect(t, migrated.New(t)+patient)
	return db.open(postgres.Options{MaxConns: 4}), db
}

// Ids whose order and number can be read in a failure.
func userID(n int) identity.UserID {
	return identity.UserID(uuid.MustParse(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)))
}

func companyID(n int) identity.CompanyID {
	return identity.CompanyID(uuid.MustParse(fmt.Sprintf("cccccccc-0000-4000-8000-%012d", n)))
}

func sessionID(n int) identity.SessionID {
	return identity.SessionID(uuid.MustParse(fmt.Sprintf("55555555-0000-4000-8000-%012d", n)))
}

// addUser inserts with plain SQL; company zero is none.
func (d *database) addUser(id identity.UserID, email string, company identity.CompanyID) {
	d.t.Helper()
	var current any
	if !company.IsZero() {
		current = company.String()
	}
	d.exec(`INSERT INTO users (id, email, company_id, role, is_active, hashed_password) VALUES ($1, $2, $3, 'user', true, $4)`,
		id.String(), email, current, aHash)
}

func (d *database) addMember(user identity.UserID, company identity.CompanyID, role string) {
	d.t.Helper()
	d.exec(`INSERT INTO company_members (user_id, company_id, role) VALUES ($1, $2, $3)`, user.String(), company.String(), role)
}

func (d *database) addCompany(id identity.CompanyID, active bool) {
	d.t.Helper()
	d.exec(`INSERT INTO companies (id, name, is_active) VALUES ($1, $2, $3)`, id.String(), "Company "+id.String(), active)
}
