// Package postgres is the only SQL of Gatehouse: it keeps people, their
// companies, invitations and sessions, and brings a database up to the release.
//
// It must never know what a token, an HTTP status or a setting is, and it judges
// nobody: it says what the database says now, and the one judgement that has to
// fall under a row lock (Join) it is handed as a function.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
)

const (
	connectTimeout = 2 * time.Second
	// pingTimeout bounds the question whether an idle connection still lives.
	pingTimeout = time.Second
	// pingAfter is how long a connection may idle and be trusted unasked.
	pingAfter = time.Second
	// Connections are renewed so that a moved DNS name or a rebalanced proxy is
	// noticed; the jitter keeps them from all going at once.
	connLifetime       = 30 * time.Minute
	connLifetimeJitter = 5 * time.Minute
	connIdleTime       = 5 * time.Minute
	// healthPeriod is how soon the least number of connections is made up again
	// after the server was away.
	healthPeriod = 5 * time.Second

	defaultMaxConns = 20
)

// ErrBadURL is returned for a database URL that cannot be read. It never quotes
// the URL: whatever part of it is misplaced may be the password.
var ErrBadURL = errors.New("the database URL is malformed (postgres://user:password@host:port/database?sslmode=…, " +
	"with special characters of the password percent-encoded)")

// Options are the choices of a Store.
type Options struct {
	// URL is a secret: postgres://… or key=value words. A proxy that pools
	// transactions needs default_query_exec_mode=exec in it; otherwise statements
	// are prepared once on each connection and kept.
	URL string
	// MinConns are kept open; MaxConns (zero: 20) are never exceeded.
	MinConns, MaxConns int
	// AppName is what pg_stat_activity shows.
	AppName string
	// PlanOnce has every prepared statement planned once, for any arguments. It is
	// for services, which ask the same few things by key all the time; PostgreSQL
	// would plan a question about four users anew each time, because it takes the
	// plan for any number to be the worse one, and that costs several times what the
	// answer does.
	PlanOnce bool
	// Logger hears the server's warnings, such as one about collations; nil:
	// nobody does. Errors are returned and never logged here.
	Logger *slog.Logger
	// Tracer makes a span of each question; nil: nobody does.
	Tracer trace.Tracer
}

// Store answers from one database. It is safe for concurrent use. Every method
// ends when its context does, also on a connection that has gone silent.
type Store struct {
	pool    *pgxpool.Pool
	metrics *metrics

	tracer           trace.Tracer // nil: none
	server, database string       // for spans
}

// Open makes a Store. It connects in the background: a database that is down is
// no error here, and one that comes back is used again without a restart.
func Open(ctx context.Context, opts Options) (*Store, error) {
	cfg, err := parseURL(opts.URL, opts.AppName)
	if err != nil {
		return nil, err
	}
	if opts.MaxConns == 0 {
		opts.MaxConns = defaultMaxConns
	}
	if opts.MaxConns < 1 || opts.MinConns < 0 || opts.MinConns > opts.MaxConns || opts.MaxConns > 10_000 {
		return nil, fmt.Errorf("a pool of at least %d and at most %d connections cannot be", opts.MinConns, opts.MaxConns)
	}
	cfg.MinConns, cfg.MaxConns = int32(opts.MinConns), int32(opts.MaxConns)
	cfg.MaxConnLifetime, cfg.MaxConnLifetimeJitter = connLifetime, connLifetimeJitter
	cfg.MaxConnIdleTime, cfg.HealthCheckPeriod = connIdleTime, healthPeriod
	cfg.PingTimeout = pingTimeout
	cfg.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > pingAfter || wantsProof(ctx)
	}
	// Without prepared statements there is nothing to plan once, and perhaps a proxy
	// that would hand the setting on to somebody else.
	if opts.PlanOnce && cfg.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, `SET plan_cache_mode = force_generic_plan`)
			return err
		}
	}
	if opts.Logger != nil {
		cfg.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			if n.Severity == "WARNING" {
				opts.Logger.Warn("the database warns", "code", n.Code, "message", n.Message)
			}
		}
	}
	if opts.Tracer != nil {
		cfg.ConnConfig.Tracer = steps{}
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("making the connection pool: %w", err)
	}
	return &Store{
		pool: pool, metrics: newMetrics(),
		tracer: opts.Tracer, server: cfg.ConnConfig.Host, database: cfg.ConnConfig.Database,
	}, nil
}

// Close ends all connections, after the queries that are on them.
func (s *Store) Close() { s.pool.Close() }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.read(ctx, queryPing, func(ctx context.Context) error {
		if err := s.pool.Ping(ctx); err != nil {
			return fmt.Errorf("asking the database: %w", err)
		}
		return nil
	})
}

// parseURL reads a URL into a configuration whose connection attempts end.
func parseURL(url, app string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx's own error carries the URL, so nothing of it is passed on but the
		// name of a file (a certificate) that could not be read.
		var file *fs.PathError
		if errors.As(err, &file) {
			return nil, fmt.Errorf("the database URL names a file: %w", file)
		}
		return nil, ErrBadURL
	}
	if url == "" {
		return nil, ErrBadURL // pgx would guess everything
	}
	cc := cfg.ConnConfig
	if cc.ConnectTimeout <= 0 {
		cc.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{
		Timeout:         cc.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	cc.DialFunc = dialer.DialContext
	if cc.RuntimeParams["application_name"] == "" && app != "" {
		cc.RuntimeParams["application_name"] = app
	}
	if cc.ValidateConnect == nil {
		cc.ValidateConnect = refuseStandby
	}
	return cfg, nil
}

// refuseStandby keeps us off a replica, where a session that was just made would
// not be there yet and one that was just ended would still be. Servers before
// PostgreSQL 14 and most proxies do not say what they are, and are taken.
func refuseStandby(_ context.Context, c *pgconn.PgConn) error {
	if c.ParameterStatus("in_hot_standby") == "on" {
		return errors.New("the server is a replica in recovery, and only the primary will do")
	}
	return nil
}

// once is err without the lines that pgx repeats: with sslmode=prefer, which is
// the default, it tries each host with TLS and without.
func once(err error) error {
	var unreachable *pgconn.ConnectError
	if !errors.As(err, &unreachable) {
		return err
	}
	head, tries, found := strings.Cut(err.Error(), "\n")
	if !found {
		return err
	}
	var lines []string
	for line := range strings.SplitSeq(tries, "\n") {
		if line = strings.TrimSpace(line); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return &plainError{text: head + " " + strings.Join(lines, "; "), error: err}
}

// plainError has another text than what it wraps.
type plainError struct {
	error
	text string
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.error }

// beginSQL is one message to the server. The isolation is named because a database
// may have another default, under which what is read after waiting for a row lock
// would be stale.
//
// The wait for a lock is bounded because it holds a connection: one user's row that
// somebody keeps locked would, with a few attempts to log in, take all of them. The
// bound is the transaction's, not the connection's, which a proxy may share.
const beginSQL = `begin isolation level read committed read write; set local lock_timeout = '1s'`

// begin starts a transaction on a connection that has just been heard of, so
// that a restart of the server costs no request.
func (s *Store) begin(ctx context.Context, work func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(withProof(ctx), s.pool, pgx.TxOptions{BeginQuery: beginSQL}, work)
}
