// Package starved tells a test how much of a time the machine spent with more to
// do than it could. What the product promises to do within a second, it does on a
// machine that has time for it; a test that holds it to that second adds what it
// did not have:
//
//	m := starved.Begin(t)
//	…
//	if took := time.Since(start) - m.Lost(); took > bound {
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

// Meter measures from Begin on. It may be asked by several goroutines.
type Meter struct {
	began   time.Time
	before  time.Duration // the kernel's figure then; -1: it has none
	overdue atomic.Int64  // by how much a goroutine woke up too late, in sum
}

// Begin begins to measure. It ends with the test.
func Begin(t testing.TB) *Meter {
	t.Helper()
	return begin(t, pressure)
}

func begin(t testing.TB, pressure func() time.Duration) *Meter {
	t.Helper()
	m := &Meter{began: time.Now(), before: pressure()}
	m.sample(t)
	return m
}

// Lost is for how long something that could have run did not, because all
// processors were busy or the disk was: 0 on an idle machine, and at most the time
// that has passed.
func (m *Meter) Lost() time.Duration {
	lost := time.Duration(m.overdue.Load())
	if m.before >= 0 {
		lost = max(lost, pressure()-m.before)
	}
	return min(lost, time.Since(m.began))
}

// pressure is the kernel's sum of the times in which something waited, since it was
// started; -1 where it does not say.
func pressure() time.Duration {
	sum := time.Duration(0)
	for _, resource := range []string{"cpu", "io"} {
		text, err := os.ReadFile("/proc/pressure/" + resource)
		if err != nil {
			return -1
		}
		waited, ok := parse(text)
		if !ok {
			return -1
		}
		sum += waited
	}
	return sum
}

// parse reads the total of the first line, in microseconds:
//
//	some avg10=0.00 avg60=1.23 avg300=0.50 total=16808566859
func parse(text []byte) (time.Duration, bool) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	_, total, found := bytes.Cut(line, []byte(" total="))
	n, err := strconv.ParseInt(string(total), 10, 64)
	return time.Duration(n) * time.Microsecond, found && err == nil && bytes.HasPrefix(line, []byte("some "))
}

// pace is how often the goroutine wants to be woken.
const pace = 5 * time.Millisecond

// sample is for systems without such a figure, and for what it does not count: that
// all of a container had to wait, for one. What sleeps is woken before what works,
// so that it sees less than the kernel does.
func (m *Meter) sample(t testing.TB) {
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
				m.overdue.Add(int64(max(0, time.Since(asleep)-pace)))
			}
		}
	}()
}
