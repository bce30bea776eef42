package devstack

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

const (
	tailLines = 8
	tailWidth = 300 // bytes of each
	maxLine   = 64 << 10
)

// tail keeps the last lines of what a process said, for the error text that
// names why it died. It is safe for concurrent use.
type tail struct {
	mu    sync.Mutex
	lines []string
	rest  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	for {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		t.rest = append(t.rest, line[:min(len(line), maxLine-min(len(t.rest), maxLine))]...)
		if !whole {
			return n, nil
		}
		t.keep()
		p = rest
	}
}

func (t *tail) keep() {
	if s := strings.TrimSpace(string(t.rest)); s != "" {
		t.lines = append(t.lines, s)
		if len(t.lines) > tailLines {
			t.lines = t.lines[1:]
		}
	}
	t.rest = t.rest[:0]
}

// String is the last lines, joined for an error text of one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if s := strings.TrimSpace(string(t.rest)); s != "" {
		lines = append(lines[:len(lines):len(lines)], s)
	}
	short := make([]string, len(lines))
	for i, line := range lines {
		short[i] = shorten(line)
	}
	return strings.Join(short, " / ")
}

// shorten cuts a line of the tail: one line of a log can hold every setting, and
// what matters of an error stands at its start.
func shorten(line string) string {
	if len(line) <= tailWidth {
		return line
	}
	return strings.ToValidUTF8(line[:tailWidth], "") + "…"
}

// suffix is what to add to an error text.
func (t *tail) suffix() string {
	s := t.String()
	if s == "" {
		return ""
	}
	return "; its last lines: " + s
}

// A lineWriter passes whole lines on, each behind a prefix, so that the output
// of several processes stays readable in one stream.
type lineWriter struct {
	stream *lines // shared by all its prefixes
	prefix string
	rest   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	n := len(p)
	for {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		w.rest = append(w.rest, line...)
		if !whole {
			if len(w.rest) > maxLine {
				w.flush()
			}
			return n, nil
		}
		w.flush()
		p = rest
	}
}

// flush writes in one call. An error is not passed back: a closed terminal
// must not fill the pipe of a server until it blocks.
func (w *lineWriter) flush() {
	text := append(append([]byte(w.prefix), w.rest...), '\n')
	if w.stream.aside != nil {
		_, _ = w.stream.aside.Write(text)
	}
	if w.stream.aside == nil || alarming(w.rest) {
		_, _ = w.stream.to.Write(text)
	}
	w.rest = w.rest[:0]
}

// alarming is a line of our services that a person has to see at once.
func alarming(line []byte) bool {
	return bytes.Contains(line, []byte(`"level":"WARN"`)) || bytes.Contains(line, []byte(`"level":"ERROR"`))
}

// lines makes writers that share one stream.
type lines struct {
	mu sync.Mutex
	to io.Writer
	// aside, if set, gets all lines, and to only those that are alarming.
	aside io.Writer
}

func (l *lines) prefixed(name string) io.Writer {
	if l.to == nil {
		return io.Discard
	}
	return &lineWriter{stream: l, prefix: name + " | "}
}

// divert sends what comes from now on to another writer; nil: back again.
func (l *lines) divert(aside io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aside = aside
}
