package devstack

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/atenex/gatehouse/internal/atomicfile"
)

// A home is the directory of one PostgreSQL: it belongs to the caller and is
// passable for the server's user, and holds
//
//	data      the cluster, the server's own (0700)
//	password  the superuser's password, the caller's own (0600)
//
// and is locked while a runner uses it. Nothing that the caller writes or trusts
// lies in a directory that the server's user, which may be the nobody of many
// services, can change.
type home struct {
	dir string
	as  runAs
}

func (h home) data() string     { return filepath.Join(h.dir, "data") }
func (h home) password() string { return filepath.Join(h.dir, "password") }

// elsewhereFile, in the state directory, names a home that lies elsewhere.
const elsewhereFile = "postgres-home"

// openHome finds or makes the home that belongs to a state directory: in the
// state directory itself, unless the server's user could not reach it there.
// Then it lies under /var/tmp, with a name that cannot be guessed, kept in the
// state directory: who deletes the state directory starts anew.
func openHome(stateDir string, as runAs) (home, error) {
	stateDir, err := filepath.Abs(stateDir)
	if err != nil {
		return home{}, err
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return home{}, err
	}
	inside := filepath.Join(stateDir, "postgres")
	pointer := filepath.Join(stateDir, elsewhereFile)
	named, err := os.ReadFile(pointer)
	switch {
	case err == nil:
		return namedHome(pointer, strings.TrimSpace(string(named)), as)
	case !errors.Is(err, fs.ErrNotExist):
		return home{}, err
	case exists(filepath.Join(inside, "data")) || as.reaches(stateDir) == nil:
		// Where a database already is it stays, reachable or not: an empty one
		// elsewhere would look like a loss.
		if err := ownDir(inside, 0o711); err != nil {
			return home{}, err
		}
		return home{inside, as}, nil
	}
	sum := sha256.Sum256([]byte(stateDir))
	dir, err := os.MkdirTemp(sharedRoot, "gatehouse-postgres-"+hex.EncodeToString(sum[:4])+"-*")
	if err != nil {
		return home{}, err
	}
	if err := errors.Join(os.Chmod(dir, 0o711), atomicfile.Write(pointer, []byte(dir+"\n"), 0o600)); err != nil {
		_ = os.Remove(dir)
		return home{}, err
	}
	return home{dir, as}, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// namedHome opens the home that the state directory names. One that is gone,
// because somebody cleaned /var/tmp, is made anew and empty under its name.
func namedHome(pointer, dir string, as runAs) (home, error) {
	if filepath.Dir(dir) != sharedRoot || !strings.HasPrefix(filepath.Base(dir), "gatehouse-postgres-") {
		return home{}, fmt.Errorf("%s names %q, which is no directory of ours", pointer, dir)
	}
	if err := ownDir(dir, 0o711); err != nil {
		return home{}, err
	}
	return home{dir, as}, nil
}

// newPassword makes the superuser's password: 192 random bits that need no
// escaping in a URL.
func newPassword() string {
	b := make([]byte, 24)
	rand.Read(b) // never fails, by its documentation
	return hex.EncodeToString(b)
}
