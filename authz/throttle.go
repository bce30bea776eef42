package authz

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// linesPerWindow is how many failures of one reason are logged in full in
	// each window. The metrics count every one.
	linesPerWindow = 5
	window         = time.Second
)

// throttle keeps identical failures from flooding the log. The zero value is
// ready. What was left out is told with the first check after its window.
type throttle struct {
	// owing is true while something left out has not been told, so that the
	// other checks need no lock.
	owing   atomic.Bool
	mu      sync.Mutex
	reasons map[string]*failures // bounded by the closed set of reasons, and one for records
}

type failures struct {
	since          time.Time
	logged, silent int
}

type suppressed struct {
	reason string
	count  int
}

// admit reports whether a failure may be logged.
func (t *throttle) admit(reason string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reasons == nil {
		t.reasons = map[string]*failures{}
	}
	f := t.reasons[reason]
	if f == nil {
		f = &failures{since: now}
		t.reasons[reason] = f
	}
	if past(f.since, now) && f.silent == 0 {
		*f = failures{since: now}
	}
	if f.logged < linesPerWindow {
		f.logged++
		return true
	}
	f.silent++
	t.owing.Store(true)
	return false
}

// due takes what was left out in windows that are over.
func (t *throttle) due(now time.Time) []suppressed {
	if !t.owing.Load() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []suppressed
	owing := false
	for reason, f := range t.reasons {
		switch {
		case f.silent == 0:
		case past(f.since, now):
			out = append(out, suppressed{reason, f.silent})
			*f = failures{since: now}
		default:
			owing = true
		}
	}
	t.owing.Store(owing)
	return out
}

// past also ends a window when the clock was set back.
func past(since, now time.Time) bool {
	age := now.Sub(since)
	return age >= window || age < 0
}
