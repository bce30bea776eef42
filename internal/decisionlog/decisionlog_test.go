package decisionlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/decisionlog"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// writer is where lines go, as a function.
type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

type logged struct {
	*decisionlog.Log
	t       *testing.T
	metrics *prometheus.Registry
	lines   *bytes.Buffer // of the ordinary log
	reopen  chan os.Signal
	stop    func()
}

// running opens a log and runs it until stop.
func running(t *testing.T, o decisionlog.Options) *logged {
	t.Helper()
	l := opened(t, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx, l.reopen)
	}()
	l.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(l.stop)
	return l
}

func opened(t *testing.T, o decisionlog.Options) *logged {
	t.Helper()
	l := &logged{t: t, metrics: prometheus.NewRegistry(), lines: &bytes.Buffer{}, reopen: make(chan os.Signal, 1)}
	o.Registerer, o.Logger = l.metrics, slog.New(slog.NewJSONHandler(l.lines, nil))
	if o.Capacity == 0 {
		o.Capacity = 1 << 20
	}
	var err error
	if l.Log, err = decisionlog.Open(o); err != nil {
		t.Fatal(err)
	}
	return l
}

// count is a counter of the log.
func (l *logged) count(name, reason string) int {
	l.t.Helper()
	families, err := l.metrics.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (reason == "" || m.GetLabel()[0].GetValue() == reason) {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	l.t.Fatalf("there is no %s %s", name, reason)
	return 0
}

func (l *logged) written() int { return l.count("gatehouse_decision_log_written_total", "") }
func (l *logged) dropped(reason string) int {
	return l.count("gatehouse_decision_log_dropped_total", reason)
}

// until waits for what another goroutine brings about.
func (l *logged) until(what string, so func() bool) {
	l.t.Helper()
	deadline, again := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !so() {
		select {
		case <-again.C:
		case <-deadline:
			l.t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestAFileIsNotLeftOpenToOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		there      fs.FileMode // 0: it is not
		want, next fs.FileMode // of the file, and of the one that begins when it is full
	}{
		{"one that is made is its owner's", 0, 0o600, 0o600},
		{"one that everybody may read is no longer", 0o644, 0o640, 0o600},
		{"nor one that everybody may write", 0o666, 0o640, 0o600},
		{"one that its group may read stays so, for whoever ships it", 0o640, 0o640, 0o600},
		{"one that is stricter stays so", 0o600, 0o600, 0o600},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "log")
			if c.there != 0 {
				if err := os.WriteFile(name, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(name, c.there); err != nil { // whatever the umask is
					t.Fatal(err)
				}
			}
			l := running(t, decisionlog.Options{Name: name, Capacity: 1, Keep: 1, Sample: 1})
			mode := func() fs.FileMode {
				info, err := os.Stat(name)
				if err != nil {
					t.Fatal(err)
				}
				return info.Mode().Perm()
			}
			if got := mode(); got != c.want {
				t.Errorf("the mode is %v, want %v", got, c.want)
			}
			l.Record(numbered(1))
			l.until("the first is written", func() bool { return l.written() == 1 })
			l.Record(numbered(2))
			l.until("the second is written", func() bool { return l.written() == 2 })
			if got := mode(); got != c.next {
				t.Errorf("the next file's mode is %v, want %v", got, c.next)
			}
			if l.stop(); l.lines.Len() != 0 {
				t.Errorf("%s", l.lines)
			}
		})
	}
}

func numbered(n int) *gatehousev1.Decision {
	return &gatehousev1.Decision{Outcome: gatehousev1.Outcome_OUTCOME_DENY, Reason: fmt.Sprint(n)}
}

// reasons are those of a file's decisions.
func reasons(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var out []string
	for entry, err := range decisionlog.Read(f) {
		if err != nil {
			t.Fatalf("%s, line %d: %v", name, entry.Line, err)
		}
		out = append(out, entry.Decision.GetReason())
	}
	return out
}

func TestWhatWasRecordedIsWrittenBeforeTheEnd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	l := opened(t, decisionlog.Options{Name: name, Sample: 1})
	for n := range 1000 {
		l.Record(numbered(n))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ended, nil)
	if got := reasons(t, name); len(got) != 1000 || got[999] != "999" || l.written() != 1000 {
		t.Errorf("%d lines, %d counted", len(got), l.written())
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v (%v), want that nobody else reads it", info.Mode(), err)
	}
}

func TestEveryDecisionIsWrittenOrCountedAsDropped(t *testing.T) {
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	l := running(t, decisionlog.Options{Name: name, Capacity: 64 << 10, Keep: 1000, Sample: 1})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 5000 {
				l.Record(numbered(worker*5000 + n))
			}
		})
	}
	wg.Wait()
	l.stop()
	files, err := filepath.Glob(name + "*")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	seen := map[string]bool{}
	for _, f := range files {
		for _, reason := range reasons(t, f) {
			lines++
			seen[reason] = true
		}
		if info, err := os.Stat(f); err != nil || info.Size() > 128<<10 {
			t.Errorf("%s has %d bytes (%v), want 64 KiB or little more", f, info.Size(), err)
		}
	}
	if lines != l.written() || lines != len(seen) || l.written()+l.dropped("full") != 20_000 || l.dropped("failed") != 0 {
		t.Errorf("%d lines, %d of them different; %d counted as written and %d as dropped, of 20000", lines, len(seen), l.written(), l.dropped("full"))
	}
	if len(files) < 2 {
		t.Errorf("%d files", len(files))
	}
}

func TestAFullFileMakesRoomAndTheOldestGoes(t *testing.T) {
	for _, c := range []struct {
		keep int
		want map[string]string // the last line of each file
	}{
		{0, map[string]string{"": "9"}},
		{1, map[string]string{"": "9", ".1": "8"}},
		{3, map[string]string{"": "9", ".1": "8", ".2": "7", ".3": "6"}},
	} {
		t.Run(fmt.Sprint(c.keep), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "decisions.jsonl")
			l := running(t, decisionlog.Options{Name: name, Capacity: 20, Keep: c.keep, Sample: 1}) // one line, not two
			for n := range 10 {
				l.Record(numbered(n))
				l.until("it is written", func() bool { return l.written() == n+1 })
			}
			l.stop()
			files, err := filepath.Glob(name + "*")
			if err != nil || len(files) != len(c.want) {
				t.Errorf("files %q (%v), want %d", files, err, len(c.want))
			}
			for suffix, want := range c.want {
				if got := reasons(t, name+suffix); len(got) != 1 || got[0] != want {
					t.Errorf("%s has %q, want %q", suffix, got, want)
				}
			}
		})
	}
}

func TestAFileThatWasMovedAwayIsOpenedAnewOnASignal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	l := running(t, decisionlog.Options{Name: name, Sample: 1})
	l.Record(numbered(1))
	l.until("it is written", func() bool { return l.written() == 1 })
	if err := os.Rename(name, name+".moved"); err != nil {
		t.Fatal(err)
	}
	l.reopen <- syscall.SIGHUP
	l.until("the file is there again", func() bool { _, err := os.Stat(name); return err == nil })
	l.Record(numbered(2))
	l.stop()
	if before, after := reasons(t, name+".moved"), reasons(t, name); strings.Join(before, " ") != "1" || strings.Join(after, " ") != "2" {
		t.Errorf("%q went before and %q after", before, after)
	}
}

// Whoever else rotates it may have done so without a signal.
func TestAFileThatSomebodyElseRotatedIsNotRotatedAgain(t *testing.T) {
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	l := running(t, decisionlog.Options{Name: name, Capacity: 20, Keep: 2, Sample: 1})
	l.Record(numbered(1))
	l.until("it is written", func() bool { return l.written() == 1 })
	if err := os.Rename(name, name+".theirs"); err != nil {
		t.Fatal(err)
	}
	l.Record(numbered(2))
	l.stop()
	if got := reasons(t, name); len(got) != 1 || got[0] != "2" {
		t.Errorf("the file has %q", got)
	}
	if _, err := os.Stat(name + ".1"); err == nil {
		t.Error("it was rotated all the same")
	}
}

func TestALineThatWasTornByACrashEndsBeforeTheNextOne(t *testing.T) {
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	if err := os.WriteFile(name, []byte(`{"kind":"decision","rea`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := running(t, decisionlog.Options{Name: name, Sample: 1})
	l.Record(numbered(1))
	l.stop()
	if got := reasons(t, name); len(got) != 1 || got[0] != "1" {
		t.Errorf("the file has %q", got)
	}
}

func TestADiskThatFailsIsToldOnceAMinuteAndCounted(t *testing.T) {
	var mu sync.Mutex
	var broken error
	var out bytes.Buffer
	clock := time.Unix(1_900_000_000, 0)
	set := func(err error, later time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		broken, clock = err, clock.Add(later)
	}
	l := running(t, decisionlog.Options{
		Sample: 1,
		Clock: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return clock
		},
		Writer: writer(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if broken != nil {
				return 0, broken
			}
			return out.Write(b)
		}),
	})
	record := func(n int) {
		for range n {
			before := l.dropped("failed") + l.written()
			l.Record(numbered(0))
			l.until("it is written or lost", func() bool { return l.dropped("failed")+l.written() > before })
		}
	}
	set(errors.New("no space left on device"), 0)
	record(5)
	set(errors.New("no space left on device"), time.Minute)
	record(1)
	set(nil, 0)
	record(3)
	l.stop()
	if l.dropped("failed") != 6 || l.written() != 3 || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%d are lost and %d written, %d lines", l.dropped("failed"), l.written(), strings.Count(out.String(), "\n"))
	}
	if got := strings.Count(l.lines.String(), "\n"); got != 2 || !strings.Contains(l.lines.String(), `"lost":5`) || !strings.Contains(l.lines.String(), "no space left") {
		t.Errorf("it is told in %d lines, want 2:\n%s", got, l.lines)
	}
}

func TestAFileThatCannotBeWrittenLaterIsTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	name := filepath.Join(dir, "decisions.jsonl")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := running(t, decisionlog.Options{Name: name, Capacity: 20, Keep: 1, Sample: 1})
	l.Record(numbered(1))
	l.until("it is written", func() bool { return l.written() == 1 })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.Record(numbered(2)) // for which a new file begins
	l.until("it is lost", func() bool { return l.dropped("failed") == 1 })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.Record(numbered(3))
	l.stop()
	if got := reasons(t, name); len(got) != 1 || got[0] != "3" {
		t.Errorf("the file has %q", got)
	}
}

// A check must not wait for a disk, nor for whoever reads standard output.
func TestRecordingNeverWaits(t *testing.T) {
	release := make(chan struct{})
	l := running(t, decisionlog.Options{Sample: 1, Writer: writer(func(b []byte) (int, error) {
		<-release
		return len(b), nil
	})})
	for n := range 10_000 {
		l.Record(numbered(n))
	}
	if l.dropped("full") == 0 {
		t.Error("10000 decisions wait")
	}
	close(release)
	l.stop()
	if got := l.written() + l.dropped("full"); got != 10_000 {
		t.Errorf("%d of 10000 are accounted for", got)
	}
}

func TestOnlyAllowsAreSampled(t *testing.T) {
	const allow, deny, failed = gatehousev1.Outcome_OUTCOME_ALLOW, gatehousev1.Outcome_OUTCOME_DENY, gatehousev1.Outcome_OUTCOME_ERROR
	for _, c := range []struct {
		sample      float64
		least, most int // of 10000 allows
	}{
		{0, 0, 0},
		{0.1, 700, 1300}, // ten standard deviations
		{1, 10_000, 10_000},
	} {
		l := opened(t, decisionlog.Options{Writer: io.Discard, Sample: c.sample})
		allows := 0
		for range 10_000 {
			if l.Wants(allow) {
				allows++
			}
			if !l.Wants(deny) || !l.Wants(failed) || !l.Wants(gatehousev1.Outcome_OUTCOME_UNSPECIFIED) {
				t.Fatalf("with a share of %v a refusal is not wanted", c.sample)
			}
		}
		if allows < c.least || allows > c.most {
			t.Errorf("with a share of %v, %d of 10000 allows are wanted", c.sample, allows)
		}
	}
}

func TestWhatCannotBeALogIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		o    decisionlog.Options
	}{
		{"neither a file nor a writer", decisionlog.Options{}},
		{"a file in a directory that is not there", decisionlog.Options{Name: filepath.Join(dir, "no", "x"), Capacity: 1}},
		{"a directory", decisionlog.Options{Name: dir, Capacity: 1}},
		{"a file of no size", decisionlog.Options{Name: filepath.Join(dir, "x")}},
		{"a negative number of files", decisionlog.Options{Name: filepath.Join(dir, "x"), Capacity: 1, Keep: -1}},
		{"a share of more than all", decisionlog.Options{Writer: io.Discard, Sample: 1.5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Registerer, c.o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			if _, err := decisionlog.Open(c.o); err == nil {
				t.Error("it is opened")
			}
		})
	}
}
