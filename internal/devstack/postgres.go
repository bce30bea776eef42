package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
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
	initdbTimeout        = 2 * time.Minute
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

// initialise makes the cluster if there is none. It is made aside and renamed,
// so that a run that was killed leaves no half of one.
func (h home) initialise(ctx context.Context, o PostgresOptions) error {
	made, err := os.ReadFile(filepath.Join(h.data(), "PG_VERSION"))
	if err == nil {
		return sameMajor(ctx, o.Bin, h.data(), strings.TrimSpace(string(made)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if entries, err := os.ReadDir(h.data()); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is neither empty nor a database cluster", h.data())
	}
	if o.Notice != nil {
		o.Notice("making a database cluster in " + h.data())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, initdbTimeout, errors.New("not done within "+initdbTimeout.String()))
	defer cancel()

	aside := filepath.Join(h.dir, "data.new")
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(aside, 0o700), h.as.own(aside)); err != nil {
		return err
	}
	password := newPassword()
	if err := writeAtomically(h.password(), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	// initdb reads the password from a file, as the server's user.
	handed := filepath.Join(h.dir, "password.new")
	if err := errors.Join(os.RemoveAll(handed), os.WriteFile(handed, []byte(password), 0o600), h.as.own(handed)); err != nil {
		return err
	}
	defer os.Remove(handed)
	args := []string{"-D", aside, "-U", superuser, "-A", "scram-sha-256", "--pwfile", handed, "--locale=C", "-E", "UTF8"}
	if o.Disposable {
		args = append(args, "--no-sync")
	}
	if err := run(ctx, Command{
		Name: "initdb", Path: filepath.Join(o.Bin, "initdb"), Args: args, Env: serverEnv(), Output: o.Output, as: h.as,
	}); err != nil {
		return err
	}
	// Empty, as seen above; rename wants it gone only where it is not.
	_ = os.Remove(h.data())
	return os.Rename(aside, h.data())
}

// run waits for a command that ends by itself.
func run(ctx context.Context, c Command) error {
	p, err := Start(c)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
		if p.err != nil {
			return p.Err()
		}
		return nil
	case <-ctx.Done():
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = p.Stop(stopping)
		return fmt.Errorf("%s: %w", c.Name, context.Cause(ctx))
	}
}

func sameMajor(ctx context.Context, bin, data, made string) error {
	out, err := quickOutput(ctx, filepath.Join(bin, "postgres"), "--version")
	if err != nil {
		return err
	}
	m := postgresVersionText.FindStringSubmatch(out)
	if m == nil || m[2] != made {
		return fmt.Errorf("%s was made by PostgreSQL %s, but the programs in %s are %s: name a PostgreSQL %s in PG_BIN, or use another state directory",
			data, made, bin, strings.TrimSpace(out), made)
	}
	return nil
}

// postmaster is what a server has written about itself into its data.
type postmaster struct {
	pid    int
	status string // "starting", "ready", "stopping"
}

func (h home) postmaster() postmaster {
	b, err := os.ReadFile(filepath.Join(h.data(), "postmaster.pid"))
	if err != nil {
		return postmaster{}
	}
	lines := strings.Split(string(b), "\n")
	var p postmaster
	// A negative number marks a backend that runs alone; it counts as well.
	if pid, err := strconv.Atoi(strings.TrimSpace(lines[0])); err == nil {
		p.pid = max(pid, -pid)
	}
	if len(lines) > 7 {
		p.status = strings.TrimSpace(lines[7])
	}
	return p
}

// clearPredecessor deals with what a killed runner may have left, which cannot
// be a live runner's, because the home's lock is ours: a server that is still
// running or shutting down is stopped, and a pid file whose number now belongs
// to somebody else, which would keep the server from starting, is removed.
func (h home) clearPredecessor(ctx context.Context, notice func(string)) error {
	pid := h.postmaster().pid
	if pid <= 1 {
		return nil
	}
	switch runs, ours := runsWith(pid, h.data()); {
	case !runs:
		return nil // the server itself replaces a stale file
	case !ours:
		return os.Remove(filepath.Join(h.data(), "postmaster.pid"))
	}
	if notice != nil {
		notice(fmt.Sprintf("stopping a PostgreSQL (pid %d) that an earlier run left behind", pid))
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stopping the PostgreSQL that an earlier run left behind (pid %d): %w", pid, err)
		}
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
			if _, ours := runsWith(pid, h.data()); !ours {
				return nil
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the PostgreSQL that an earlier run left behind (pid %d) does not stop", pid)
}

// serverEnv keeps the caller's settings, PG... variables and secrets away from
// the server.
func serverEnv() []string {
	return []string{"PATH=" + "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/"}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
