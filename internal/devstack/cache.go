package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// sharedRoot is where root keeps what an unprivileged server must be able to
// read: root's own home is closed to the user that PostgreSQL runs as.
const sharedRoot = "/var/tmp"

// DefaultCacheDir is where fetched programs are kept if nobody says otherwise:
// the user's cache directory, or for root a directory that the user PostgreSQL
// runs as can read too. It creates nothing.
func DefaultCacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return filepath.Join(sharedRoot, "gatehouse-cache"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache directory: %w", err)
	}
	return filepath.Join(dir, "gatehouse"), nil
}

// ownDir makes dir and refuses one that somebody else could have filled: what
// lies in it is going to be executed or trusted, and its parent may be
// writable for everybody.
func ownDir(dir string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err == nil {
		// The umask may have taken bits that others need.
		return os.Chmod(dir, mode)
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	return checkOwnDir(dir)
}

func checkOwnDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	switch stat, ok := info.Sys().(*syscall.Stat_t); {
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory (a link is not followed here)", dir)
	case ok && int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user id %d, not to %d who runs this", dir, stat.Uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %04o)", dir, info.Mode().Perm())
	}
	return nil
}

// fileLock is an advisory lock that ends with the process at the latest.
type fileLock struct{ file *os.File }

var errLocked = errors.New("locked by another process")

// tryLock takes the lock or returns errLocked at once. The file stays: removing
// it would let two processes hold "the" lock.
func tryLock(path string) (*fileLock, error) {
	// No link is followed: a lock file may lie beside files of other users.
	return flock(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW)
}

// tryLockDir locks a directory itself, which also keeps systemd-tmpfiles from
// ageing the files in it.
func tryLockDir(dir string) (*fileLock, error) {
	return flock(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW)
}

func flock(path string, flags int) (*fileLock, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return &fileLock{f}, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, fmt.Errorf("locking %s: %w", path, err)
}

// lock waits for the lock until ctx ends.
func lock(ctx context.Context, path string) (*fileLock, error) {
	for {
		l, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, fmt.Errorf("waiting for the lock %s: %w", path, err)
		}
	}
}

func (l *fileLock) release() {
	if l != nil {
		_ = l.file.Close()
	}
}

// pause is one step of a poll.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
