package decisionlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// file is a log that begins anew when it is full: name is the one that is written,
// name.1 the latest full one, and so on. It belongs to one goroutine.
//
// lumberjack and its like do the same with a goroutine that never ends, in files
// that are named for the time, and cannot be told to open the file anew, which is
// what those who rotate logs themselves need.
type file struct {
	name     string
	capacity int64 // bytes; one line may go beyond it
	keep     int   // full files beside the one that is written

	f    *os.File // nil: could not be opened, or written to
	size int64
	torn bool // the last line of it lacks its end: a full disk, or a crash
	// wide is why a file that others may use was left so; nil: it was not.
	wide error
}

// most is what a file that is there already may allow. Its group may read, if somebody
// has seen to that, for whoever ships the log; a file that is made here is its owner's.
const most = 0o640

// open opens the file, or opens it anew, which is for whoever has moved it away.
func (l *file) open() error {
	l.close()
	f, err := os.OpenFile(l.name, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return err
	}
	l.f, l.size, l.torn = f, 0, false
	l.wide = nil
	if info.Mode().IsRegular() {
		if mode := info.Mode().Perm(); mode&^most != 0 {
			l.wide = f.Chmod(mode & most)
		}
		l.size = info.Size()
		var last [1]byte
		if l.size > 0 {
			if _, err := f.ReadAt(last[:], l.size-1); err != nil {
				_ = f.Close()
				l.f = nil
				return err
			}
			l.torn = last[0] != '\n'
		}
	}
	return nil
}

func (l *file) close() {
	if l.f != nil {
		_ = l.f.Close() // every line was written in full or has been told of
		l.f = nil
	}
}

// Write takes whole lines.
func (l *file) Write(lines []byte) (int, error) {
	if l.f == nil {
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	if l.size > 0 && l.size+int64(len(lines)) > l.capacity {
		if err := l.rotate(); err != nil {
			return 0, fmt.Errorf("beginning a new file: %w", err)
		}
	}
	if l.torn {
		if _, err := l.f.Write([]byte("\n")); err != nil {
			return 0, err
		}
		l.torn = false
	}
	n, err := l.f.Write(lines)
	l.size += int64(n)
	if err != nil {
		l.close() // the next one tries from the beginning
	}
	return n, err
}

// rotate moves the full files up by one, and the last of them away.
func (l *file) rotate() error {
	if l.moved() {
		return l.open() // somebody else has rotated it
	}
	l.close()
	numbered := func(n int) string {
		if n == 0 {
			return l.name
		}
		return l.name + "." + strconv.Itoa(n)
	}
	if l.keep == 0 {
		if err := os.Remove(l.name); err != nil {
			return err
		}
	}
	for n := l.keep - 1; n >= 0; n-- {
		if err := os.Rename(numbered(n), numbered(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return l.open()
}

// moved reports that the name is no longer of the file that is written.
func (l *file) moved() bool {
	there, err := os.Stat(l.name)
	if err != nil {
		return true
	}
	written, err := l.f.Stat()
	return err != nil || !os.SameFile(there, written)
}
