// Package starved tells a test how much of a time its machine spent with more to do
// than it could. What the product promises to do within a second, it does on a
// machine that has time for it; a test that holds it to that second does not count
// what the machine had not:
//
//	w := starved.Begin(t)
//	…
//	if took := w.Took(); took > bound {
//
// It must never know what is tested, and no shipped code imports it.
package starved

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// Watch measures from its beginning on. Several goroutines may use it.
type Watch struct {
	machine *machine
	began   time.Time
	before  sums
}

// Begin begins to measure, for as long as the test runs.
func Begin(t testing.TB) Watch {
	t.Helper()
	return begin(t, pressure)
}

func begin(t testing.TB, pressure func() time.Duration) Watch {
	t.Helper()
	m := &machine{pressure: pressure}
	m.sample(t)
	return Watch{machine: m}.Again()
}

// Again is another watch that begins now, and ends with the same test.
func (w Watch) Again() Watch {
	return Watch{machine: w.machine, began: time.Now(), before: w.machine.lost()}
}

// Lost is for how long something that could have run did not, because all
// processors were busy or the disk was: 0 on an idle machine, and at most the time
// that has passed.
func (w Watch) Lost() time.Duration {
	now := w.machine.lost()
	return min(max(now.waited-w.before.waited, now.overslept-w.before.overslept), w.Passed())
}

// Took is the time that has passed, without what was lost of it.
func (w Watch) Took() time.Duration {
	passed := w.Passed()
	return passed - min(passed, w.Lost())
}

// Passed is the time that has passed.
func (w Watch) Passed() time.Duration { return time.Since(w.began) }

// machine is what is known of the whole machine.
type machine struct {
	pressure  func() time.Duration
	overslept atomic.Int64
}

// sums are those of all times, by what the kernel says and by what a goroutine saw.
type sums struct{ waited, overslept time.Duration }

func (m *machine) lost() sums {
	return sums{waited: m.pressure(), overslept: time.Duration(m.overslept.Load())}
}

// pressure is the kernel's sum of the times in which something waited, since it was
// started; 0 where it does not say.
func pressure() time.Duration {
	sum := time.Duration(0)
	for _, resource := range []string{"cpu", "io"} {
		text, err := os.ReadFile("/proc/pressure/" + resource)
		if err != nil {
			return 0
		}
		sum += parse(text)
	}
	return sum
}

// parse reads the total of the first line, in microseconds:
//
//	some avg10=0.00 avg60=1.23 avg300=0.50 total=16808566859
func parse(text []byte) time.Duration {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	_, total, _ := bytes.Cut(line, []byte(" total="))
	n, err := strconv.ParseInt(string(total), 10, 64)
	if err != nil || !bytes.HasPrefix(line, []byte("some ")) {
		return 0
	}
	return time.Duration(n) * time.Microsecond
}

// pace is how often the goroutine wants to be woken.
const pace = 5 * time.Millisecond

// sample is for systems without such a figure, and for what it does not count, such
// as a container that has used up its share. What sleeps is woken before what works,
// so that it sees less than the kernel does.
func (m *machine) sample(t testing.TB) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		timer := time.NewTimer(pace)
		defer timer.Stop()
		for {
			asleep := time.Now()
			timer.Reset(pace)
			select {
			case <-done:
				return
			case <-timer.C:
				m.overslept.Add(int64(max(0, time.Since(asleep)-pace)))
			}
		}
	}()
}
