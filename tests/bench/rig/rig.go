// Package rig is what the benchmark stands on: a scratch directory, the programs
// built from this tree, a real PostgreSQL with people in it, a real Envoy, and the
// servers between the two. It starts them, and sees to it that nothing of them is
// left. It must never know what is measured.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/tests/bench/tool"
)

// Options say where to find what is not built here.
type Options struct {
	EnvoyBin, PostgresBin string            // as in ENVOY_BIN and PG_BIN; empty: looked for
	Environ               map[string]string // for the go command
	Notice                func(string)      // told before something takes long
}

// Rig holds everything that runs.
type Rig struct {
	options  Options
	dir      string
	postgres *devstack.Postgres
	database string
	envoyBin devstack.Binary

	PostgresVersion string
}

// patience is for things that must come true, on a slow machine too.
const patience = 60 * time.Second

// Open makes the scratch directory.
func Open(o Options) (*Rig, error) {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return nil, err
	}
	// PostgreSQL refuses to be root, so root's server runs as another user, who
	// must be able to pass.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // see above; files in it are closed
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Rig{options: o, dir: dir}, nil
}

// Close stops PostgreSQL and removes the directory. Every stage must be closed.
func (r *Rig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stopped error
	if r.postgres != nil {
		stopped = r.postgres.Stop(ctx)
	}
	return errors.Join(stopped, os.RemoveAll(r.dir))
}

// EnvoyVersion is known once Prepare has found it.
func (r *Rig) EnvoyVersion() string { return r.envoyBin.Version }

// Build compiles the programs of this tree.
func (r *Rig) Build(ctx context.Context) error {
	const module = "github.com/atenex/gatehouse/"
	_, err := tool.Run(ctx, r.options.Environ, "go", "build", "-trimpath", "-o", r.program("")+string(filepath.Separator),
		module+"cmd/authz", module+"cmd/gatehouse", module+"tests/bench/noop", module+"tests/bench/ordinary")
	return err
}

func (r *Rig) program(name string) string { return filepath.Join(r.dir, "bin", name) }

// Prepare looks for Envoy and starts PostgreSQL, with the durability that it has by
// default: what is measured here is what an installation pays.
func (r *Rig) Prepare(ctx context.Context) error {
	var err error
	r.envoyBin, err = devstack.EnvoyBinary(ctx, devstack.FindOptions{EnvoyBin: r.options.EnvoyBin, Notice: r.options.Notice})
	if err != nil {
		return err
	}
	found, err := devstack.PostgresBinaries(ctx, devstack.FindOptions{PostgresBin: r.options.PostgresBin, Notice: r.options.Notice})
	if err != nil {
		return err
	}
	r.PostgresVersion = found.Version
	// Passable as the directory above it, or the data would go elsewhere.
	state := filepath.Join(r.dir, "database")
	if err := os.Mkdir(state, 0o711); err != nil { //nolint:gosec // likewise
		return err
	}
	r.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{
		Bin: found.Path, StateDir: state, Notice: r.options.Notice,
		// A checkpoint of the people just put in would fall into a round.
		Settings: []string{"max_wal_size=8GB", "checkpoint_timeout=1h", "autovacuum=off"},
	})
	if err != nil {
		return err
	}
	if err := r.postgres.EnsureDatabase(ctx, "bench"); err != nil {
		return err
	}
	r.database = r.postgres.URL("bench")
	return nil
}

// Database is its URL, with the password.
func (r *Rig) Database() string { return r.database }

// PostgresPID is the postmaster's.
func (r *Rig) PostgresPID() int { return r.postgres.PID() }

func pairs(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	return out
}

// eventually waits for something that must come true.
func eventually(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %v", patience))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%w)", what, err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Environ makes a map of what os.Environ gives, without our own settings: those
// of whoever runs the benchmark must not change it.
func Environ(pairs []string) map[string]string {
	out := map[string]string{}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		if !strings.HasPrefix(name, "GATEWAY_") {
			out[name] = value
		}
	}
	return out
}
