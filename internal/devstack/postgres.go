package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresOptions describe one PostgreSQL server.
type PostgresOptions struct {
	// Bin is the directory of the programs, from PostgresBinaries.
	Bin string
	// StateDir holds the server's data, or names where it lies if the user
	// that the server runs as cannot get there. It is made if need be.
	StateDir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Disposable trades durability for speed: for tests alone.
	Disposable bool
	// Settings are further "name=value" settings of the server.
	Settings []string
	// Output gets the server's log.
	Output io.Writer
	// Notice is told before something takes long.
	Notice func(string)
}

// Postgres is a running PostgreSQL server on 127.0.0.1, with password
// authentication (scram-sha-256) and no Unix socket.
type Postgres struct {
	process  *Process
	home     home
	held     *fileLock
	password string
	port     int
}

const (
	superuser = "postgres"
	// A server that recovers from a crash replays its log first.
	postgresStartTimeout = 60 * time.Second
	postgresStopTimeout  = 10 * time.Second
	portAttempts         = 5

	codeInvalidPassword = "28P01"
)

// StartPostgres starts the server of a state directory, made by initdb the
// first time, and returns when it answers. It runs until Stop, the end of the
// process that started it, or its own; ctx bounds the start alone.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	as, err := serverUser()
	if err != nil {
		return nil, err
	}
	if err := as.reaches(o.Bin); err != nil {
		return nil, err
	}
	h, err := openHome(o.StateDir, as)
	if err != nil {
		return nil, fmt.Errorf("preparing PostgreSQL's directory: %w", err)
	}
	if err := as.reaches(h.dir); err != nil {
		return nil, err
	}
	held, err := tryLockDir(h.dir)
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("the database in %s is in use by another process", h.dir)
	}
	if err != nil {
		return nil, err
	}
	p := &Postgres{home: h, held: held}
	if err := p.start(ctx, o); err != nil {
		held.release()
		return nil, err
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context, o PostgresOptions) error {
	if err := p.home.initialise(ctx, o); err != nil {
		return fmt.Errorf("making the database cluster: %w", err)
	}
	password, err := os.ReadFile(p.home.password())
	if err != nil {
		return fmt.Errorf("reading the password of the database in %s: %w", p.home.dir, err)
	}
	p.password = strings.TrimSpace(string(password))
	if err := p.home.clearPredecessor(ctx, o.Notice); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, postgresStartTimeout, errors.New("it did not answer within "+postgresStartTimeout.String()))
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := p.launch(ctx, o)
		// The children of a server that was killed end within moments.
		if err != nil && strings.Contains(err.Error(), "pre-existing shared memory block") && pause(ctx, 200*time.Millisecond) == nil {
			attempt--
			continue
		}
		// Between choosing a free port and listening on it another process
		// can take it; a port that was asked for is not ours to change.
		if err == nil || o.Port != 0 || attempt == portAttempts || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
	}
}

// launch starts the server once and waits until it answers.
func (p *Postgres) launch(ctx context.Context, o PostgresOptions) error {
	p.port = o.Port
	if p.port == 0 {
		var err error
		if p.port, err = freePort(); err != nil {
			return err
		}
	}
	orphaned := syscall.SIGINT
	settings := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(p.port),
		// Nobody needs one, and its path could be too long.
		"unix_socket_directories=",
		"logging_collector=off",
		// Its log becomes that of whoever started it: a message, never the row
		// or the statement it is about, which may hold a password or its hash.
		"log_error_verbosity=terse",
		"log_min_error_statement=panic",
	}
	if o.Disposable {
		orphaned = syscall.SIGQUIT
		// Commits still reach the system before they are answered, so that
		// rows survive a server that is killed, if not a power cut.
		settings = append(settings, "fsync=off", "full_page_writes=off", "max_connections=300")
	}
	args := []string{"-D", p.home.data()}
	for _, s := range append(settings, o.Settings...) {
		args = append(args, "-c", s)
	}
	process, err := Start(Command{
		Name: "postgres", Path: filepath.Join(o.Bin, "postgres"), Args: args,
		Env: serverEnv(), Output: o.Output, Interrupt: syscall.SIGINT, Orphaned: orphaned, as: p.home.as,
	})
	if err != nil {
		return err
	}
	p.process = process
	if err := p.ready(ctx); err != nil {
		// Nothing has been entrusted to it yet, so it need not be asked long.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = process.Stop(stopping)
		return err
	}
	return nil
}

// ready waits until the server lets the superuser in.
func (p *Postgres) ready(ctx context.Context) error {
	var last error
	for {
		last = p.ping(ctx)
		if last == nil {
			return nil
		}
		if refused := (*pgconn.PgError)(nil); errors.As(last, &refused) && refused.Code == codeInvalidPassword {
			return fmt.Errorf("the database in %s does not know the password kept beside it: %w", p.home.dir, last)
		}
		select {
		case <-p.process.Done():
			return p.process.Err()
		case <-ctx.Done():
			return fmt.Errorf("postgres is not ready: %w (%w)%s", context.Cause(ctx), last, p.process.said.suffix())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Postgres) ping(ctx context.Context) error {
	// Its own word first: before that a connection only fills the log.
	if status := p.home.postmaster().status; status != "ready" {
		return fmt.Errorf("its status is %q", status)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL(superuser))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// URL is how to reach a database of the server as its superuser. It holds the
// password.
func (p *Postgres) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, p.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is the server's port on 127.0.0.1.
func (p *Postgres) Port() int { return p.port }

// PID is the postmaster's process id.
func (p *Postgres) PID() int { return p.process.PID() }

// DataDir is the cluster's directory.
func (p *Postgres) DataDir() string { return p.home.data() }

// Done is closed when the server has ended.
func (p *Postgres) Done() <-chan struct{} { return p.process.Done() }

// Err says how the server ended, once Done is closed.
func (p *Postgres) Err() error { return p.process.Err() }

// EnsureDatabase makes a database unless it is there. This is an operator's
// chore on the server, not a query of the product.
func (p *Postgres) EnsureDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, p.URL(superuser))
	if err != nil {
		return fmt.Errorf("connecting to make the database %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil {
		return fmt.Errorf("looking for the database %s: %w", name, err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("making the database %s: %w", name, err)
	}
	return nil
}

// Stop shuts the server down: fast and clean first (SIGINT), without a
// checkpoint (SIGQUIT) when ctx or ten seconds are over, then by force. It
// returns an error only if the shutdown was not clean.
func (p *Postgres) Stop(ctx context.Context) error {
	defer p.held.release()
	ctx, cancel := context.WithTimeout(ctx, postgresStopTimeout)
	defer cancel()
	_ = p.process.Signal(syscall.SIGINT) // it may be gone already
	select {
	case <-p.process.Done():
		return nil
	case <-ctx.Done():
	}
	hurry, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := p.process.stop(hurry, syscall.SIGQUIT); err != nil {
		return err
	}
	return errors.New("postgres did not stop in time and was cut off; it will recover at its next start")
}

// Kill ends the server as a crash would and returns when it is gone; the next
// start recovers.
func (p *Postgres) Kill() error {
	defer p.held.release()
	p.process.kill()
	<-p.process.Done()
	return nil
}

// serverEnv keeps the caller's settings, PG... variables and secrets away from
// the server.
func serverEnv() []string {
	return []string{"PATH=" + "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/"}
}

func freePort() (int, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	address, err := netip.ParseAddrPort(l.Addr().String())
	return int(address.Port()), err
}
