// Package decisionlog keeps what authz decides, one line of JSON for each
// decision: to answer later why a request was refused, and to see what other rules
// would have said.
//
// It never holds a decision up. What cannot be written as fast as it comes, or not
// at all, is dropped and counted.
//
// It must never know how a decision is made, or see a token: what it is given is
// what it writes.
package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

const (
	// queued decisions wait to be written: a tenth of a second of 40,000 checks.
	// One is 2 KiB of memory as a rule, and 20 KiB if a client makes it so.
	queued = 4096
	// batch is how many bytes are written at once, if so many wait.
	batch = 64 << 10
	// complaint is how often a failing disk is told.
	complaint = time.Minute
)

// Options are the choices of a Log. Name or Writer, Registerer and Logger are
// needed.
type Options struct {
	// Name is of a file, which begins anew when it has Capacity bytes; Keep full
	// ones are kept beside it.
	Name     string
	Capacity int64
	Keep     int
	// Writer takes the lines where Name is empty, such as standard output.
	Writer io.Writer

	// Sample is the share of allows that are recorded, 0 to 1. Denials and errors
	// always are.
	Sample float64

	Registerer prometheus.Registerer
	Logger     *slog.Logger
	Clock      func() time.Time // nil: time.Now
}

// Log takes decisions over from any number of goroutines, and writes them in Run.
type Log struct {
	sample float64
	queue  chan *gatehousev1.Decision
	out    io.Writer
	file   *file // nil: out is none of ours

	log                   *slog.Logger
	clock                 func() time.Time
	written, full, failed prometheus.Counter

	// Of Run alone.
	lines    []byte
	count    int // of lines
	lost     int // since the last complaint
	complain time.Time
}

// Open opens the file, if there is one, and registers the metrics. A file that
// cannot be opened now is an error; one that cannot be written later is not.
func Open(o Options) (*Log, error) {
	switch {
	case o.Name == "" && o.Writer == nil:
		return nil, errors.New("a decision log needs a file or a writer")
	case o.Registerer == nil || o.Logger == nil:
		return nil, errors.New("a decision log needs a metrics registry and a logger")
	case o.Name != "" && (o.Capacity < 1 || o.Keep < 0):
		return nil, errors.New("a decision log of no size")
	case !(o.Sample >= 0 && o.Sample <= 1):
		return nil, errors.New("a share of decisions that is not from 0 to 1")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	l := &Log{
		sample: o.Sample,
		queue:  make(chan *gatehousev1.Decision, queued),
		out:    o.Writer,
		log:    o.Logger,
		clock:  o.Clock,
	}
	l.written = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_decision_log_written_total",
		Help: "Decisions that were written to the decision log.",
	})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_decision_log_dropped_total",
		Help: "Decisions that were not written to the decision log though they should have been, by reason: full (they came faster than they could be written) or failed (they could not be written).",
	}, []string{"reason"})
	l.full, l.failed = dropped.WithLabelValues("full"), dropped.WithLabelValues("failed")
	for _, c := range []prometheus.Collector{l.written, dropped} {
		if err := o.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of the decision log: %w", err)
		}
	}
	if o.Name != "" {
		l.file = &file{name: o.Name, capacity: o.Capacity, keep: o.Keep}
		if err := l.file.open(); err != nil {
			return nil, fmt.Errorf("opening the decision log: %w", err)
		}
		l.out = l.file
		l.tellWide()
	}
	return l, nil
}

// Wants reports whether a decision is to be recorded. Which allows are is chance
// alone: ids of requests and traces are the client's to choose, and would let it
// choose what is recorded.
func (l *Log) Wants(o gatehousev1.Outcome) bool {
	if o != gatehousev1.Outcome_OUTCOME_ALLOW || l.sample == 1 {
		return true
	}
	return rand.Float64() < l.sample //nolint:gosec // nothing is guarded by it
}

// Record takes a decision over. It does not wait.
func (l *Log) Record(d *gatehousev1.Decision) {
	select {
	case l.queue <- d:
	default:
		l.full.Inc()
	}
}

// Run writes until ctx ends, and then what was recorded before that. On a signal
// from reopen it opens its file anew, for those who have moved it away. It may be
// called once.
func (l *Log) Run(ctx context.Context, reopen <-chan os.Signal) {
	defer l.close()
	for {
		select {
		case d := <-l.queue:
			l.take(d)
		case <-reopen:
			l.reopen()
		case <-ctx.Done():
			for len(l.queue) > 0 {
				l.take(<-l.queue)
			}
			return
		}
	}
}

// take writes a decision and those that wait behind it.
func (l *Log) take(d *gatehousev1.Decision) {
	for {
		l.add(d)
		if len(l.lines) >= batch {
			break
		}
		select {
		case d = <-l.queue:
			continue
		default:
		}
		break
	}
	l.flush()
}

func (l *Log) add(d *gatehousev1.Decision) {
	lines, err := AppendLine(l.lines, d)
	if err != nil {
		l.lose(1, err)
		return
	}
	l.lines, l.count = lines, l.count+1
}

func (l *Log) flush() {
	if l.count == 0 {
		return
	}
	if _, err := l.out.Write(l.lines); err != nil {
		l.lose(l.count, err)
	} else {
		l.written.Add(float64(l.count))
	}
	l.lines, l.count = l.lines[:0], 0
}

// lose counts what was not written, and says so once in a while.
func (l *Log) lose(count int, err error) {
	l.failed.Add(float64(count))
	l.lost += count
	now := l.clock()
	if now.Before(l.complain) {
		return
	}
	l.log.Error("decisions cannot be written to the decision log", "lost", l.lost, "error", err)
	l.lost, l.complain = 0, now.Add(complaint)
}

func (l *Log) reopen() {
	if l.file == nil {
		return
	}
	if err := l.file.open(); err != nil {
		l.lose(0, err)
		return
	}
	l.log.Info("decision log opened anew", "file", l.file.name)
	l.tellWide()
}

// tellWide says that others may use the file, and that it could not be helped, such as
// because it is somebody else's.
func (l *Log) tellWide() {
	if l.file.wide != nil {
		l.log.Warn("more than the owner and the group may use the decision log", "file", l.file.name, "error", l.file.wide)
	}
}

func (l *Log) close() {
	if l.file != nil {
		l.file.close()
	}
}
