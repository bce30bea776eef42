package password

import (
	"context"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	minFloor = 250 * time.Millisecond
	// maxFloor keeps one stalled computation from making everybody wait.
	maxFloor  = 3 * time.Second
	floorStep = 50 * time.Millisecond
	jitter    = 50 * time.Millisecond
	// raisedFor is how long the floor stays up after a verification that took
	// longer than its cost explains, such as on a machine with too much to do.
	raisedFor = 10 * time.Minute
	// slowHash is the time beyond which an operator should hear of it, and a floor
	// of which is worth another look: see Settle.
	slowHash = 500 * time.Millisecond
	// settleAfter is when Settle looks for the first time; each wait is twice the one
	// before, up to settleUntil.
	settleAfter = 30 * time.Second
	settleUntil = 16 * time.Minute
)

// floor is the time that every refusal takes at least. The schemes in one table
// are a factor of ten apart, so a decoy of one cannot stand in for the other;
// what makes them look alike is that all of them end below the same floor.
type floor struct {
	mu       sync.Mutex
	base     time.Duration
	measured map[Scheme]sample // what base is over: the dearest of each

	raised time.Duration
	until  time.Time
}

// sample is the fastest that so much work was ever done in.
type sample struct {
	work uint64
	took time.Duration
}

func newFloor() *floor {
	return &floor{base: minFloor, measured: map[Scheme]sample{}}
}

func floorOver(elapsed time.Duration) time.Duration {
	d := elapsed + elapsed*3/10
	d = (d + floorStep - 1).Truncate(floorStep)
	return min(max(d, minFloor), maxFloor)
}

// observe lets the floor rise over a verification that came near it. Rows of a
// cost above what was measured before raise it for good: such a row will be
// asked for again. Anything else raises it for a while, counted from the last
// slow one. What was measured on a machine with too much to do is forgotten for
// what the same work takes on one that has the time.
func (f *floor) observe(row stored, elapsed time.Duration, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, dearer := f.measured[row.scheme()], false
	switch {
	case row.work() > known.work:
		known, dearer = sample{row.work(), elapsed}, true
	case row.work() == known.work:
		known.took = min(known.took, elapsed)
	}
	f.measured[row.scheme()] = known
	f.base = minFloor
	for _, m := range f.measured {
		f.base = max(f.base, floorOver(m.took))
	}
	if !dearer && elapsed > f.base-floorStep {
		f.raised = max(f.at(now), floorOver(elapsed))
		f.until = now.Add(raisedFor)
	}
}

// highest is the highest cost of bcrypt that was met.
func (f *floor) highest() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(bits.Len64(f.measured[Bcrypt].work)-1, 0)
}

func (f *floor) at(now time.Time) time.Duration {
	if now.Before(f.until) {
		return max(f.base, f.raised)
	}
	return f.base
}

// FailureDue is the moment before which a refusal must not be answered. It is
// counted from the permit's grant, not from the request's arrival: time spent
// in the queue would otherwise use up the floor and lay the hash time bare
// under load. Ask before Release, and wait after it.
func (p *Permit) FailureDue() time.Time {
	return p.granted.Add(p.hasher.Floor() + rand.N(jitter)) //nolint:gosec // noise on a clock, no secret
}

// Floor is the least time that a refusal takes at this moment.
func (h *Hasher) Floor() time.Duration {
	h.floor.mu.Lock()
	defer h.floor.mu.Unlock()
	return h.floor.at(time.Now())
}

// Calibrate measures a hash of the current scheme and one of bcrypt at the
// highest cost that the table holds (0: LegacyBcryptCost; more than the 14 that
// are ever computed counts as 14), and sets the floor over the slower. Call it
// before the first request. Called again, it lifts the floor where there are dearer
// hashes by now, and lowers it where the machine was too busy before.
func (h *Hasher) Calibrate(ctx context.Context, highestBcryptCost int) error {
	if highestBcryptCost == 0 {
		highestBcryptCost = LegacyBcryptCost
	}
	highestBcryptCost = min(max(highestBcryptCost, minBcryptCost), maxBcryptCost)
	permit, err := h.Admit(ctx)
	if err != nil {
		return err
	}
	defer permit.Release()

	level := slog.LevelInfo
	attrs := make([]slog.Attr, 0, 3)
	for _, sample := range []struct {
		name string
		row  stored
	}{{"current_ms", h.decoy}, {"bcrypt_ms", decoyBcrypt(highestBcryptCost)}} {
		// The faster of two: a process starts beside others that start, and
		// what they take away must not stay in the floor.
		_, elapsed := h.measure(sample.row, "calibration")
		_, again := h.measure(sample.row, "calibration")
		elapsed = min(elapsed, again)
		h.floor.observe(sample.row, elapsed, time.Now())
		if elapsed > slowHash {
			level = slog.LevelWarn
		}
		attrs = append(attrs, slog.Int64(sample.name, elapsed.Milliseconds()))
	}
	attrs = append(attrs, slog.Int64("floor_ms", h.Floor().Milliseconds()))
	if level == slog.LevelInfo {
		h.log.LogAttrs(ctx, level, "password hashing calibrated", attrs...)
		return nil
	}
	h.log.LogAttrs(ctx, level, "password hashing calibrated: a hash takes long here, and every refused login the floor; "+
		"what is busy at its start is measured again", attrs...)
	return nil
}

// Settle calibrates again, and less and less often, for as long as the floor is
// higher than it should be: a login service often starts together with much else,
// and would make everybody whose password is refused wait for that ever after. It
// ends with ctx, or when there is nothing to gain.
func (h *Hasher) Settle(ctx context.Context) {
	for wait := settleAfter; wait <= settleUntil && h.Floor() > slowHash; wait *= 2 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		// With too much to do for it, the next time.
		_ = h.Calibrate(ctx, h.floor.highest())
	}
}
