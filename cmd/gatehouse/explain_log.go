package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/decisionlog"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

const (
	// longestLogLine bounds a line of a log; one of a decision has 64 KiB at most, and
	// some more in front of it.
	longestLogLine = 1 << 20
	// lookEvery is how often a file is looked at. Inotify would be quicker, and
	// knows nothing of files on other machines.
	lookEvery = 250 * time.Millisecond
	// upLog is where `up` has decisions recorded in demo mode.
	upLog = "decisions.jsonl"
)

// parseDecision finds a decision in a line of a log, which may have something in
// front of it, such as the name of a container.
func parseDecision(line []byte) (*gatehousev1.Decision, error) {
	if at := bytes.Index(line, []byte(`{"kind":"decision"`)); at > 0 {
		line = line[at:]
	}
	return decisionlog.Parse(bytes.TrimSpace(line))
}

// lineReader gives the lines of something that grows: what lacks its end is kept
// until that comes.
type lineReader struct {
	in      *bufio.Reader
	partial []byte
	tooLong bool
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{in: bufio.NewReaderSize(r, 64<<10)} }

// next returns a whole line, without its end. io.EOF says that there is none yet.
// The line is good until the next call; one that is longer than any decision is
// empty.
func (l *lineReader) next() ([]byte, error) {
	for {
		part, err := l.in.ReadSlice('\n')
		if l.tooLong = l.tooLong || len(l.partial)+len(part) > longestLogLine; !l.tooLong {
			l.partial = append(l.partial, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, err
		}
		return l.take(), nil
	}
}

// rest is a last line that nobody ended.
func (l *lineReader) rest() []byte { return l.take() }

func (l *lineReader) take() []byte {
	line := bytes.TrimRight(l.partial, "\r\n")
	if l.tooLong {
		line = nil
	}
	l.partial, l.tooLong = l.partial[:0], false
	return line
}

// batchLines and batchBytes bound the lines of a log that are read side by side.
const (
	batchLines = 1024
	batchBytes = 4 << 20
)

// eachDecision reads a log to its end, in its order. Lines that are something else are
// passed over, and so are damaged ones, which are counted. Memory does not grow with it.
func eachDecision(ctx context.Context, r io.Reader, tell func(line int, d *gatehousev1.Decision) error) (damaged int, err error) {
	lines := newLineReader(r)
	for number := 1; ; {
		batch, ended, err := nextBatch(ctx, lines)
		if err != nil {
			return damaged, err
		}
		for _, read := range parseBatch(batch) {
			switch {
			case read.damaged:
				damaged++
			case read.decision != nil:
				if err := tell(number, read.decision); err != nil {
					return damaged, err
				}
			}
			number++
		}
		if ended {
			return damaged, nil
		}
	}
}

// nextBatch copies the lines that come next.
func nextBatch(ctx context.Context, lines *lineReader) (batch [][]byte, ended bool, err error) {
	for size := 0; len(batch) < batchLines && size < batchBytes && !ended; {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		line, err := lines.next()
		if ended = errors.Is(err, io.EOF); ended {
			line = lines.rest()
		} else if err != nil {
			return nil, false, fmt.Errorf("reading the decision log: %w", err)
		}
		batch, size = append(batch, bytes.Clone(line)), size+len(line)
	}
	return batch, ended, nil
}

// readLine is what a line was; neither: something else.
type readLine struct {
	decision *gatehousev1.Decision
	damaged  bool
}

// parseBatch parses on all processors, which is what takes the time of reading a log.
func parseBatch(batch [][]byte) []readLine {
	read := make([]readLine, len(batch))
	share := max(1, (len(batch)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	var parsers sync.WaitGroup
	for from := 0; from < len(batch); from += share {
		parsers.Go(func() {
			for i := from; i < min(from+share, len(batch)); i++ {
				d, err := parseDecision(batch[i])
				switch {
				case errors.Is(err, decisionlog.ErrNoDecision):
					read[i].damaged = bytes.Contains(batch[i], []byte(`"kind":"decision"`)) // half a line
				case err != nil:
					read[i].damaged = true
				default:
					read[i].decision = d
				}
			}
		})
	}
	parsers.Wait()
	return read
}

// openLog opens a log that is named, - for standard input.
func (in *invocation) openLog(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(in.stdin), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the decision log: %w", err)
	}
	return f, nil
}

// defaultLog is the log that is meant where none is named; nil: of settings that are
// wrong.
func (in *invocation) defaultLog(s *config.Settings) (string, error) {
	switch {
	case s == nil:
		return "", misuse("the settings are wrong, and with them where the decision log is: name a file, or - for standard input")
	case s.DecisionLog.To == config.DecisionsStdout:
		return "", misuse("GATEWAY_DECISION_LOG is stdout: name a file, or - and pipe the output of authz in")
	case s.DecisionLog.To != "":
		return s.DecisionLog.To, nil
	}
	if dir, err := defaultStateDir(in.environ); err == nil {
		name := filepath.Join(dir, upLog)
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return "", misuse("no decision log: GATEWAY_DECISION_LOG is not set, and 'gatehouse up' has left none; name a file, or - for standard input")
}
