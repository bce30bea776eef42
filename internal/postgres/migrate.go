package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

const (
	// versionTable is goose's record of what was applied. Its own name keeps it
	// apart from a goose_db_version that another application may have here.
	versionTable = "gatehouse_migrations"

	// migrationLock is the key of the advisory lock under which one process at a
	// time migrates. Any number will do, but it may never change: an old and a
	// new release must meet at the same lock.
	migrationLock = 7_305_411_920_644_287

	// oldestServer is PostgreSQL 13, the first with gen_random_uuid built in.
	oldestServer = 130000

	// lockTry bounds one wait for a table lock. While a migration waits for its
	// lock, everything that comes after it waits too, reads included; so it gives
	// way often instead of waiting long once.
	lockTry = 2 * time.Second

	defaultLockWait = 10 * time.Second
)

// The ways in which a migration is refused that somebody may want to tell apart.
// See also ShapeError and EmailConflictError.
var (
	ErrSchemaNewer  = errors.New("the database was migrated by a newer release of Gatehouse")
	ErrServerTooOld = errors.New("PostgreSQL 13 or newer is needed")
	ErrLocked       = errors.New("a table is locked by another transaction")
)

// MigrateOptions are the choices of one migration. The zero value is good.
type MigrateOptions struct {
	// Logger hears of waits, nothing else; nil: nobody does.
	Logger *slog.Logger
	// LockWait bounds the waiting for other transactions; zero: 10 s.
	LockWait time.Duration
}

// Migration is one step that was carried out.
type Migration struct {
	Version int64
	Name    string
	Took    time.Duration
}

// MigrateResult says what a migration did.
type MigrateResult struct {
	Applied []Migration // empty: the tables were up to date
	// Repaired are triggers and functions that were put back although the tables
	// were up to date.
	Repaired []Broken
	Version  int64
	Schema   string // that holds the tables
	// Warnings name what was adopted although it will hinder later.
	Warnings []string
}

// Migrate brings the database up to this release, and puts back triggers and
// functions of ours that somebody took away or altered. It adopts existing users and
// companies tables (contract section 10), never loses or rewrites a row of them,
// and leaves the database as it was if they cannot be adopted. Replicas may call
// it at the same time. Where nothing is to be done it needs no more than to read.
//
// It needs a direct connection: a proxy that pools transactions cannot hold the
// session lock. The role must own users and companies where they exist.
func Migrate(ctx context.Context, url string, opts MigrateOptions) (MigrateResult, error) {
	m, err := openMigrator(ctx, url)
	if err != nil {
		return MigrateResult{}, err
	}
	defer m.close()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.LockWait <= 0 {
		opts.LockWait = defaultLockWait
	}

	// Without the lock first: the common start, where all is done, takes none.
	if done, result, err := m.upToDate(ctx); done || err != nil {
		return result, err
	}
	// The provider is not given the locker itself: it would make its version
	// table, and we our checks, outside of the lock.
	locker, err := lock.NewPostgresSessionLocker(
		lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 120), lock.WithUnlockTimeout(1, 5))
	if err != nil {
		return MigrateResult{}, fmt.Errorf("making the migration lock: %w", err)
	}
	if err := locker.SessionLock(ctx, m.control); err != nil {
		return MigrateResult{}, fmt.Errorf("waiting for another migration to end: %w", err)
	}
	// A failed unlock is no failure: the lock ends with the connection, next.
	defer func() {
		_ = locker.SessionUnlock(context.WithoutCancel(ctx), m.control)
	}()
	if done, result, err := m.upToDate(ctx); done || err != nil {
		return result, err
	}
	return m.apply(ctx, opts)
}

// migrator is one connection that looks and locks, and a pool beside it on which
// the provider works.
type migrator struct {
	db       *sql.DB
	control  *sql.Conn
	provider *goose.Provider
	schema   string
	server   string
	shadows  []string // relations that a query would find in the place of ours
}

func openMigrator(ctx context.Context, url string) (*migrator, error) {
	cfg, err := parseURL(url, "gatehouse migrate")
	if err != nil {
		return nil, err
	}
	m := &migrator{}
	m.db = stdlib.OpenDB(*cfg.ConnConfig, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		// The statement time-out of the role may be made for requests, not for
		// building an index; the lock time-out is off by default.
		_, err := c.Exec(ctx, `SELECT set_config('lock_timeout', $1, false),
			set_config('statement_timeout', '10min', false),
			set_config('search_path', coalesce(nullif($2, ''), current_setting('search_path')), false)`,
			lockTry.String(), m.searchPath())
		return err
	}))
	if err := m.look(ctx); err != nil {
		m.close()
		return nil, err
	}
	files, err := fs.Sub(migrationFiles, "migrations")
	if err == nil {
		m.provider, err = goose.NewProvider(goose.DialectPostgres, m.db, files,
			goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true),
			goose.WithAllowOutofOrder(true))
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	return m, nil
}

// look connects, and finds the server fit and the schema to work in.
func (m *migrator) look(ctx context.Context) (err error) {
	if m.control, err = m.db.Conn(ctx); err != nil {
		return fmt.Errorf("connecting to the database: %w", once(err))
	}
	var number int
	err = m.control.QueryRowContext(ctx,
		`SELECT current_setting('server_version_num')::int, current_setting('server_version')`).Scan(&number, &m.server)
	if err != nil {
		return fmt.Errorf("asking the server for its version: %w", err)
	}
	if number < oldestServer {
		return fmt.Errorf("%w; this server is %s", ErrServerTooOld, m.server)
	}
	// The users table that a query would find decides where everything lives; a
	// trigger may be run by a session with quite another search_path.
	var schema sql.NullString
	err = m.control.QueryRowContext(ctx, `SELECT coalesce(
		(SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('users')),
		current_schema())`).Scan(&schema)
	if err != nil {
		return fmt.Errorf("looking for the users table: %w", err)
	}
	if !schema.Valid {
		return errors.New("no schema of the search_path exists, so there is no place for the tables")
	}
	m.schema = schema.String
	if m.shadows, err = m.shadowing(ctx); err != nil {
		return err
	}
	if _, err := m.control.ExecContext(ctx, `SELECT set_config('search_path', $1, false)`, m.searchPath()); err != nil {
		return fmt.Errorf("setting the search_path: %w", err)
	}
	return nil
}

// shadowing finds relations of our names in schemas that are searched before the
// one that holds users. It must be asked before the search_path is pinned.
func (m *migrator) shadowing(ctx context.Context) ([]string, error) {
	var found []string
	names := []string{"companies", versionTable}
	for _, own := range ownTables() {
		names = append(names, own.name)
	}
	for _, name := range names {
		var shadow string
		err := m.control.QueryRowContext(ctx, `
			SELECT format('%I.%I', n.nspname, c.relname)
			  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			 WHERE c.oid = to_regclass($1)
			   AND array_position(current_schemas(true), n.nspname) < array_position(current_schemas(true), $2::name)`,
			name, m.schema).Scan(&shadow)
		if err == nil {
			found = append(found, shadow)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("looking for the table %s: %w", name, err)
		}
	}
	return found, nil
}

// searchPath names pg_temp last, where it would otherwise be searched first.
func (m *migrator) searchPath() string {
	if m.schema == "" {
		return ""
	}
	return pgx.Identifier{m.schema}.Sanitize() + ", pg_temp"
}

func (m *migrator) close() {
	if m.control != nil {
		_ = m.control.Close()
	}
	_ = m.db.Close()
}

// current is the version of the database, and whether it has a version table.
func (m *migrator) current(ctx context.Context) (version int64, recorded bool, err error) {
	table := pgx.Identifier{m.schema, versionTable}.Sanitize()
	if err = m.control.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&recorded); err != nil {
		return 0, false, fmt.Errorf("looking for %s: %w", versionTable, err)
	}
	if !recorded {
		return 0, false, nil
	}
	err = m.control.QueryRowContext(ctx,
		`SELECT coalesce(max(version_id), 0) FROM `+table+` WHERE is_applied`).Scan(&version)
	if err != nil {
		return 0, true, m.explain(ctx, fmt.Errorf("reading %s: %w", versionTable, err))
	}
	return version, true, nil
}

// pending names the migrations that the database has not had, oldest first. They
// need not be the newest ones: an operator may have had one forgotten, so that
// it makes its objects anew.
func (m *migrator) pending(ctx context.Context, recorded bool) ([]string, error) {
	var names []string
	for _, s := range m.provider.ListSources() {
		had := false
		if recorded {
			err := m.control.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM `+pgx.Identifier{m.schema, versionTable}.Sanitize()+
				` WHERE version_id = $1 AND is_applied)`, s.Version).Scan(&had)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", versionTable, err)
			}
		}
		if !had {
			names = append(names, strings.TrimSuffix(path.Base(s.Path), ".sql"))
		}
	}
	return names, nil
}

func (m *migrator) latest() int64 {
	sources := m.provider.ListSources()
	return sources[len(sources)-1].Version
}

func (m *migrator) upToDate(ctx context.Context) (bool, MigrateResult, error) {
	version, recorded, err := m.current(ctx)
	if err != nil {
		return false, MigrateResult{}, err
	}
	if version > m.latest() {
		return false, MigrateResult{}, fmt.Errorf("%w: it is at version %d, this release knows %d",
			ErrSchemaNewer, version, m.latest())
	}
	result := MigrateResult{Version: version, Schema: m.schema}
	pending, err := m.pending(ctx, recorded)
	if err != nil || len(pending) > 0 {
		return false, result, err
	}
	broken, err := m.broken(ctx)
	return len(broken) == 0, result, err
}

// apply runs what is missing. It is called under the migration lock.
func (m *migrator) apply(ctx context.Context, opts MigrateOptions) (MigrateResult, error) {
	version, recorded, err := m.current(ctx)
	if err != nil {
		return MigrateResult{}, err
	}
	result := MigrateResult{Schema: m.schema, Version: version}
	if version == 0 {
		if result.Warnings, err = m.checkShape(ctx); err != nil {
			return MigrateResult{}, m.explain(ctx, err)
		}
	} else if faults, err := clashingNames(ctx, m.control, version); err != nil || len(faults) > 0 {
		if err == nil {
			err = &ShapeError{Differences: faults}
		}
		return MigrateResult{}, m.explain(ctx, err)
	}
	steps, err := m.up(ctx, opts)
	if err != nil {
		err = m.explain(ctx, err)
		if version == 0 {
			// What the checks found may have changed before the migration had its
			// locks; their answer says more than that of a failed statement.
			if _, found := m.checkShape(ctx); isShapeFault(found) {
				err = found
			}
		}
		if !recorded {
			m.forget(ctx)
		}
		return MigrateResult{}, err
	}
	for _, s := range steps {
		name := strings.TrimSuffix(path.Base(s.Source.Path), ".sql")
		result.Applied = append(result.Applied, Migration{Version: s.Source.Version, Name: name, Took: s.Duration})
		result.Version = max(result.Version, s.Source.Version)
	}
	// The migrations may have made an older release's.
	repaired, err := m.repair(ctx, opts)
	if err != nil {
		return MigrateResult{}, err
	}
	if len(steps) == 0 {
		result.Repaired = repaired
	}
	return result, nil
}

func (m *migrator) up(ctx context.Context, opts MigrateOptions) (steps []*goose.MigrationResult, err error) {
	err = m.patiently(ctx, opts, func() error {
		done, err := m.provider.Up(ctx)
		steps = append(steps, done...)
		return err
	})
	return steps, err
}

// patiently tries again for as long as others hold the tables. A try that failed
// left nothing behind: each step is one transaction.
func (m *migrator) patiently(ctx context.Context, opts MigrateOptions, step func() error) error {
	until := time.Now().Add(opts.LockWait)
	for {
		err := step()
		if err == nil || !waitsForLock(err) || time.Now().After(until) {
			return err
		}
		opts.Logger.InfoContext(ctx, "migration waits for other transactions", "holders", m.holders(ctx))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// forget removes the version table that a failed first migration made, so that
// a refused database is left exactly as it was.
func (m *migrator) forget(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if version, recorded, err := m.current(ctx); err != nil || !recorded || version != 0 {
		return
	}
	_, _ = m.control.ExecContext(ctx, `DROP TABLE `+pgx.Identifier{m.schema, versionTable}.Sanitize())
}

func waitsForLock(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	return refused.Code == codeLockNotAvailable || refused.Code == codeDeadlock
}

// explain puts what the operator can do about it before what the server said.
func (m *migrator) explain(ctx context.Context, err error) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case codeLockNotAvailable, codeDeadlock:
		return fmt.Errorf("%w, nothing was changed; holders of our tables: %s (%w)", ErrLocked, m.holders(ctx), err)
	case codeDenied:
		return fmt.Errorf("the database role lacks a right, nothing was changed; "+
			"migrations must run as the owner of users and companies, with CREATE on the schema %q: %w", m.schema, err)
	case codeReadOnly:
		return fmt.Errorf("the database only reads (a replica, or default_transaction_read_only): %w", err)
	default:
		return err
	}
}

// holders describes who holds the tables right now.
func (m *migrator) holders(ctx context.Context) string {
	const none = "none seen any more"
	rows, err := m.control.QueryContext(ctx, `
		SELECT DISTINCT format('pid %s (user %s, application %s, %s for %s s)', a.pid, a.usename,
		       quote_literal(coalesce(a.application_name, '')), a.state, extract(epoch FROM now() - a.xact_start)::int)
		  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		 WHERE l.relation IN (to_regclass('users'), to_regclass('companies'), to_regclass('company_members'), to_regclass('sessions'), to_regclass('audit_log'))
		   AND l.granted AND a.pid <> pg_backend_pid() LIMIT 5`)
	if err != nil {
		return none
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var one string
		if rows.Scan(&one) == nil {
			found = append(found, one)
		}
	}
	if rows.Err() != nil || len(found) == 0 {
		return none
	}
	return strings.Join(found, "; ")
}
