package keyring

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/atenex/gatehouse/internal/token"
)

// maxFile is the bound of every secret file.
const maxFile = 64 << 10

// file is what was seen of the file. Its content is compared and not its times:
// in a volume of Kubernetes a name leads through links that are replaced, and a
// file system may have seconds only.
type file struct {
	inForce [sha256.Size]byte
	// bad is a content that cannot be used. It is spoken of when it is still there
	// at the next look: a file that is being written is read in halves.
	bad  [sha256.Size]byte
	seen bool
	told bool
}

// digest leaves out the white space at the ends, which means nothing in JSON and
// which the reader of the settings may have cut off.
func digest(set []byte) [sha256.Size]byte { return sha256.Sum256(bytes.TrimSpace(set)) }

// look reads the file and puts it in force if it has changed. now speaks of a bad
// one at first sight.
func (r *Ring) look(now bool) {
	text, err := readFile(r.with.File)
	sum := digest(text)
	if err != nil {
		sum = digest([]byte(err.Error()))
	}
	f := &r.file
	switch {
	case err == nil && sum == f.inForce:
		f.seen, f.told = false, false
		return
	case f.seen && sum == f.bad && f.told && !now:
		return
	}
	if err == nil {
		own, readErr := r.read(text)
		if err = readErr; err == nil {
			r.file = file{inForce: sum}
			r.take(own)
			r.metrics.reloads.WithLabelValues("ok").Inc()
			r.with.Logger.Info("the key set has changed", "keys", len(own.Keys()), "signing_kid", signingID(own))
			return
		}
	}
	second := f.seen && sum == f.bad
	f.bad, f.seen, f.told = sum, true, second || now
	if f.told {
		r.metrics.reloads.WithLabelValues("refused").Inc()
		r.with.Logger.Error("the key set in the file cannot be used; the one of before stays in force", "error", err)
	}
}

func signingID(set *token.KeySet) string {
	key, _ := set.Signer()
	return key.ID()
}

// readFile refuses what could hang or never end. Its errors name the base name of
// the file at most.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name) // before it is opened: opening a pipe would wait for a writer
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(name), bare(err))
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(name), bare(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(name), bare(err))
	}
	if len(text) == 0 {
		return nil, errors.New("the file is empty") // and not: there is no key set
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("the file has more than %d bytes", maxFile)
	}
	return text, nil
}

// bare is the error without the path that package os puts into it.
func bare(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}
