package mail

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/identity"
)

// Files puts each mail into a file of its own instead of sending it: for a machine of
// one's own, and for tests. Whoever reads the directory can reset every password.
type Files struct {
	dir  string
	from *netmail.Address
}

// NewFiles writes into dir, which is made, for its owner alone, with the first mail.
func NewFiles(dir string, from *netmail.Address) (*Files, error) {
	if !filepath.IsAbs(dir) || from == nil {
		return nil, errors.New("mails in files need an absolute directory and a sender")
	}
	return &Files{dir: dir, from: from}, nil
}

// Send writes one file, which is there whole or not at all. Their names sort by time.
func (f *Files) Send(_ context.Context, m identity.Mail) error {
	msg, err := compose(f.from, m, gomail.NoEncoding)
	if err != nil {
		return err
	}
	text, err := render(msg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of mails: %w", bare(err))
	}
	name := time.Now().UTC().Format("20060102T150405.000000Z") + "-" + strings.ToLower(rand.Text()[:8]) + ".eml"
	if err := atomicfile.Write(filepath.Join(f.dir, name), text, 0o600); err != nil {
		return fmt.Errorf("writing a mail: %w", err)
	}
	return nil
}

// bare is the cause alone where the operation says nothing more.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
