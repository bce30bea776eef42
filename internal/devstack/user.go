package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// runAs is the user a server runs as. The zero value is the caller's own.
type runAs struct {
	name       string
	credential *syscall.Credential // nil: no change
}

// serverUser is who PostgreSQL runs as: it refuses to run as root, so root
// hands it to postgres, or to nobody where there is no such user.
func serverUser() (runAs, error) {
	if os.Geteuid() != 0 {
		return runAs{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return runAs{}, fmt.Errorf("user %s: %w", name, err)
		}
		if uid == 0 {
			continue
		}
		return runAs{name, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return runAs{}, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as")
}

// reaches reports which directory on the way to dir is closed to the user.
// Only the permission bits are judged; the server itself has the last word.
func (r runAs) reaches(dir string) error {
	if r.credential == nil {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !r.mayEnter(info) {
			return fmt.Errorf("user %s, whom PostgreSQL runs as, cannot enter %s", r.name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (r runAs) mayEnter(info os.FileInfo) bool {
	mode := info.Mode().Perm()
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && stat.Uid == r.credential.Uid:
		return mode&0o100 != 0
	case ok && stat.Gid == r.credential.Gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// own gives path to the user.
func (r runAs) own(path string) error {
	if r.credential == nil {
		return nil
	}
	return os.Lchown(path, int(r.credential.Uid), int(r.credential.Gid))
}
