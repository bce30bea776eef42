package issuers

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFile is the bound of every file that is read here, as of all secret files.
const maxFile = 64 << 10

// readFile refuses what could hang or never end. Its errors do not name the file:
// someone may have put the secret itself in the place of its file.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name) // before it is opened: opening a pipe would wait for a writer
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", bare(err))
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", bare(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the file cannot be read: %w", bare(err))
	case len(text) == 0:
		return nil, errors.New("the file is empty")
	case len(text) > maxFile:
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
