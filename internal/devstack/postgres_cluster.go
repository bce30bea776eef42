package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/atenex/gatehouse/internal/atomicfile"
)

// initdbTimeout is far beyond what a slow disk needs.
const initdbTimeout = 2 * time.Minute

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
	if err := atomicfile.Write(h.password(), []byte(password+"\n"), 0o600); err != nil {
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
