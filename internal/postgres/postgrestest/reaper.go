package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// How a server per process ends: a test binary has no hook that runs at its
// end whatever happens (a panic, -timeout and kill -9 run none), so a shell
// waits on a pipe that the kernel closes when this process is gone. It then
// ends what still runs and removes the directory. If the shell is killed as
// well, the next run of any test removes the directory, which it knows by the
// lock that nobody holds.

// reaper is the shell's program; $1 is the directory.
const reaper = `
read -r _
for f in "$1"/*/postgres/data/postmaster.pid; do
	pid=$(head -n 1 "$f" 2>/dev/null) && [ "${pid:-0}" -gt 1 ] && kill -QUIT "$pid" 2>/dev/null
done
i=0
while [ $i -lt 100 ] && ls "$1"/*/postgres/data/postmaster.pid >/dev/null 2>&1; do
	sleep 0.1
	i=$((i + 1))
done
rm -rf -- "$1"
`

// abandonedAfter keeps a directory safe between its making and its locking.
const abandonedAfter = time.Minute

// workplace is the process's directory. Its files are never closed by us: the
// kernel does it when the process is gone, which is what lock and reaper wait
// for. They are kept here because the collector would close them too.
type workplace struct {
	dir   string
	lock  *os.File
	alive *os.File // our end of the reaper's pipe
}

// newWorkplace makes the directory, with a reaper on it, and removes those that
// killed processes left behind.
func newWorkplace() (*workplace, error) {
	base := os.TempDir()
	if os.Geteuid() == 0 {
		// The server runs as another user, who must be able to get there.
		base = "/var/tmp"
	}
	prefix := fmt.Sprintf("gatehouse-test-%d-", os.Geteuid())
	sweep(filepath.Join(base, prefix+"*"))
	dir, err := os.MkdirTemp(base, prefix+"*")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	w := &workplace{dir: dir}
	if w.lock, err = hold(dir); err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}

	wait, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	w.alive = alive
	cmd := exec.Command("/bin/sh", "-c", reaper, "sh", dir)
	cmd.Dir = "/"
	cmd.Stdin = wait
	// Out of the way of a Ctrl-C that ends the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Never waited for: it outlives this process on purpose.
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the reaper: %w", err)
	}
	return w, wait.Close()
}

// hold locks dir, or reports that a living process does.
func hold(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes directories of ours that no living process holds. It is only
// housekeeping, so what it cannot do it leaves.
func sweep(pattern string) {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < abandonedAfter {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			continue
		}
		f, err := hold(dir)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		_ = f.Close()
	}
}
