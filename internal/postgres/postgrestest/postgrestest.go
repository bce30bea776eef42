// Package postgrestest gives tests a real PostgreSQL: one server per test
// process, and on it an empty database per test.
//
// A machine without PostgreSQL is no reason to skip: the pinned one is fetched
// (see devstack), and if that cannot be, the test fails with the ways out.
//
// It must never know our tables: what a database holds is the test's affair.
package postgrestest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/devstack"
)

const (
	// The first use may fetch PostgreSQL.
	startTimeout = 5 * time.Minute
	queryTimeout = time.Minute
)

// The one server of the process and what is needed to start more. They are
// started by the first test that asks; the reaper ends them.
//
//nolint:gochecknoglobals // one server for all tests of a process is the point
var (
	binaries = sync.OnceValues(func() (devstack.Binary, error) {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		return devstack.PostgresBinaries(ctx, devstack.FindOptions{PostgresBin: os.Getenv("PG_BIN")})
	})
	place  = sync.OnceValues(newWorkplace)
	shared = sync.OnceValues(func() (*devstack.Postgres, error) { return start("shared", 0) })
)

// New makes an empty database on the process's server and returns its URL. The
// database is dropped, with whoever is still connected, when the test ends.
func New(t testing.TB) string {
	t.Helper()
	server, err := shared()
	if err != nil {
		t.Fatalf("starting PostgreSQL for tests: %v", err)
	}
	return newDatabase(t, server)
}

// Dedicated is a server of one test's own, which it may stop, kill and start.
type Dedicated struct {
	t      testing.TB
	name   string
	server *devstack.Postgres
}

// Server starts a server for this test alone. It costs about a second; a test
// that does no harm to the server uses New.
func Server(t testing.TB) *Dedicated {
	t.Helper()
	d := &Dedicated{t: t, name: "dedicated-" + strings.ToLower(rand.Text()[:10])}
	d.start(0)
	t.Cleanup(func() {
		d.Stop()
		if at, err := place(); err == nil {
			_ = os.RemoveAll(filepath.Join(at.dir, d.name))
		}
	})
	return d
}

// New makes an empty database on this server and returns its URL, which stays
// good over Stop and Start.
func (d *Dedicated) New() string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	name := databaseName()
	if err := d.server.EnsureDatabase(ctx, name); err != nil {
		d.t.Fatal(err)
	}
	return d.server.URL(name)
}

// Port is the server's port on 127.0.0.1, the same after each Start.
func (d *Dedicated) Port() int { return d.server.Port() }

// PID is the postmaster's process id.
func (d *Dedicated) PID() int { return d.server.PID() }

// Stop shuts the server down; connections are refused when it returns. A
// stopped server may be stopped again.
func (d *Dedicated) Stop() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	if err := d.server.Stop(ctx); err != nil {
		d.t.Errorf("stopping PostgreSQL: %v", err)
	}
}

// Kill ends the server as a crash does and returns when it is gone.
func (d *Dedicated) Kill() {
	d.t.Helper()
	if err := d.server.Kill(); err != nil {
		d.t.Errorf("killing PostgreSQL: %v", err)
	}
}

// Start starts a stopped or killed server again, on the same port with the
// same data, and returns when it answers.
func (d *Dedicated) Start() {
	d.t.Helper()
	d.start(d.server.Port())
}

func (d *Dedicated) start(port int) {
	d.t.Helper()
	server, err := start(d.name, port)
	if err != nil {
		d.t.Fatalf("starting PostgreSQL for tests: %v", err)
	}
	d.server = server
}

func start(name string, port int) (*devstack.Postgres, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	at, err := place()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	stateDir := filepath.Join(at.dir, name)
	// Passable, because root's server runs as another user.
	if err := os.Mkdir(stateDir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return devstack.StartPostgres(ctx, devstack.PostgresOptions{Bin: bin.Path, StateDir: stateDir, Port: port, Disposable: true})
}

func newDatabase(t testing.TB, server *devstack.Postgres) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	name := databaseName()
	if err := server.EnsureDatabase(ctx, name); err != nil {
		t.Fatal(err)
	}
	dropAtEnd(t, server, name)
	return server.URL(name)
}

func dropAtEnd(t testing.TB, server *devstack.Postgres, name string) {
	t.Helper()
	t.Cleanup(func() {
		if err := drop(server, name); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
}

func databaseName() string { return "test_" + strings.ToLower(rand.Text()) }

func drop(server *devstack.Postgres, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
