package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// outcome is what became of a request.
type outcome int

const (
	allowed   outcome = iota // an upstream answered
	refused                  // with the refusal that is expected
	undecided                // 503 as the contract has it
)

func (o outcome) String() string { return [...]string{"allowed", "refused", "undecided"}[o] }

// sighting is what one request through Envoy met.
type sighting struct {
	sent, came time.Time
	by         string // the replica that was asked; empty: whichever Envoy chose
	outcome    outcome
}

func (s sighting) asked() string {
	if s.by == "" {
		return "some replica"
	}
	return s.by
}

// watch asks again and again with one token, as clients under load do: each
// replica alone, and all of them through the one cluster.
type watch struct {
	f       *fleet
	t       *testing.T
	name    string
	raw     string
	refusal refusal
	stop    func()

	began, committed time.Time // of the phase's change

	mu   sync.Mutex
	seen []sighting
	odd  error // the first answer that nobody should get
}

// pace keeps a watch from taking the machine away from other tests.
const pace = 50 * time.Millisecond

// watch begins to ask; want is the only refusal that may come.
func (f *fleet) watch(t *testing.T, raw string, want refusal) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{f: f, t: t, name: want.detail, raw: raw, refusal: want}
	var all sync.WaitGroup
	w.stop = func() { cancel(); all.Wait() }
	t.Cleanup(w.stop)
	gates := map[string]*stack{"": f.in(t)}
	for _, r := range f.replicas {
		gates[r.host] = r.in(t)
	}
	for by, gate := range gates {
		all.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				sent := time.Now()
				a := gate.get(strictRoute, bearer(raw))
				if ctx.Err() != nil {
					return
				}
				w.note(sighting{sent: sent, came: time.Now(), by: by}, a)
			}
		})
	}
	return w
}

func (w *watch) note(s sighting, a answer) {
	plain := a.header.Get("Content-Type") == "application/json" && a.body == `{"detail":"`+a.detail()+`"}`
	var odd error
	switch {
	case a.err != nil:
		odd = a.err
	case a.status == http.StatusOK && a.reached():
		s.outcome = allowed
	case a.status == w.refusal.status && a.detail() == w.refusal.detail && plain:
		s.outcome = refused
	case a.status == http.StatusServiceUnavailable && a.detail() == cannotDecide && plain && a.header.Get("Retry-After") == "1":
		s.outcome = undecided
	default:
		odd = fmt.Errorf("%s answered %d %s", s.asked(), a.status, a.body)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if odd != nil {
		if w.odd == nil {
			w.odd = odd
		}
		return
	}
	w.seen = append(w.seen, s)
}

// forget begins a new phase.
func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
}

// sightings are those of the phase.
func (w *watch) sightings() []sighting {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.odd != nil {
		w.t.Fatalf("%s: %v", w.name, w.odd)
	}
	return append([]sighting(nil), w.seen...)
}

// await waits until the sightings of the phase are as they must become.
func (w *watch) await(what string, holds func([]sighting) error) {
	w.t.Helper()
	eventually(w.t, w.name+": "+what, func() error { return holds(w.sightings()) })
}

// each holds once every one of the replicas has given an outcome to n requests
// that were sent after a time.
func (f *fleet) each(replicas []*replica, want outcome, n int, after time.Time) func([]sighting) error {
	return func(seen []sighting) error {
		count := map[string]int{}
		for _, s := range seen {
			if s.outcome == want && s.sent.After(after) {
				count[s.by]++
			}
		}
		for _, r := range replicas {
			if count[r.host] < n {
				return fmt.Errorf("%s has %v %d requests of %d", r.host, want, count[r.host], n)
			}
		}
		return nil
	}
}

// change begins a phase with a change to the database; f returns when it was
// committed at the latest.
func (w *watch) change(f func() (committed time.Time)) {
	w.forget()
	w.began = time.Now()
	w.committed = f()
}

// wantForgotten is for changes that forbid what was allowed. It waits until each
// replica gives the outcome several times in a row, and judges what came
// meanwhile: no request may be allowed that was sent after the replica's first
// refusal, or later after the commit than what was heard last is trusted.
func wantForgotten(then outcome, replicas []*replica, watches ...*watch) {
	for _, w := range watches {
		w.t.Helper()
		w.await("the change counts", w.judged(w.f.each(replicas, then, 1, w.began)))
	}
	all := time.Now()
	for _, w := range watches {
		if then == refused { // what is left undecided takes its time
			w.await("it is final", w.judged(w.f.each(replicas, then, 3, all)))
		}
	}
}

// wantOutlasted waits until requests have been answered that were sent after the
// documented bound, and judges again.
func (w *watch) wantOutlasted(then outcome, replicas []*replica) {
	w.t.Helper()
	w.await("the bound has passed", w.judged(w.f.each(replicas, then, 1, w.committed.Add(w.f.trusted))))
}

// judged judges before it looks.
func (w *watch) judged(holds func([]sighting) error) func([]sighting) error {
	return func(seen []sighting) error {
		w.t.Helper()
		w.judge(seen)
		return holds(seen)
	}
}

func (w *watch) judge(seen []sighting) {
	w.t.Helper()
	first := map[string]time.Time{}
	for _, s := range seen {
		if at, told := first[s.by]; s.outcome == refused && s.sent.After(w.began) && (!told || s.came.Before(at)) {
			first[s.by] = s.came
		}
	}
	// Whichever Envoy chose, it has refused once the last of all has.
	delete(first, "")
	if len(first) == len(w.f.replicas) {
		first[""] = slices.MaxFunc(slices.Collect(maps.Values(first)), time.Time.Compare)
	}
	bound := w.committed.Add(w.f.trusted)
	for _, s := range seen {
		if s.outcome != allowed {
			continue
		}
		if at, told := first[s.by]; told && s.sent.After(at) {
			w.t.Fatalf("%s: %s allowed a request that was sent %v after its first refusal (%v after the commit)",
				w.name, s.asked(), s.sent.Sub(at), s.sent.Sub(w.committed))
		}
		if s.sent.After(bound) {
			w.t.Fatalf("%s: %s allowed a request that was sent %v after the commit, which is more than %v",
				w.name, s.asked(), s.sent.Sub(w.committed), w.f.trusted)
		}
	}
}

// wantGranted is for a change that allows what was forbidden. It waits until
// each of the replicas does; a refusal is remembered no longer after the commit
// than what was heard is trusted.
func (w *watch) wantGranted(replicas []*replica) {
	w.t.Helper()
	w.await("the grant counts", w.f.each(replicas, allowed, 2, w.committed))
	for _, s := range w.sightings() {
		if s.outcome == refused && s.sent.After(w.committed.Add(w.f.trusted)) {
			w.t.Fatalf("%s: %s refused a request that was sent %v after the grant", w.name, s.asked(), s.sent.Sub(w.committed))
		}
	}
}

// decided fails the test if any request of the phase was left undecided.
func (w *watch) decided() {
	w.t.Helper()
	for _, s := range w.sightings() {
		if s.outcome == undecided {
			w.t.Fatalf("%s: a request was left undecided by %s", w.name, s.asked())
		}
	}
}
