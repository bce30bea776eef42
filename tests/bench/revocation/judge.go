// Package revocation measures how long a change of a user's standing, made with
// plain SQL, takes to be enforced by every replica of authz behind a real Envoy,
// and proves that none of them lets anything through after it has refused. It must
// never know how authz hears of a change.
package revocation

import (
	"fmt"
	"time"
)

// Probe is one request and its answer.
type Probe struct {
	Replica int
	// Sent is when the request was about to be written, Arrived when its answer
	// had been read: whatever the gate decided, it did in between.
	Sent, Arrived time.Time
	Status        int
}

// Change is when a change was made.
type Change struct {
	Issued       time.Time // about to be sent to PostgreSQL
	Acknowledged time.Time // its commit had been answered
	Refusal      int       // the status that it must lead to
}

// Verdict is what a round showed.
type Verdict struct {
	// Lags are from the acknowledgement to the arrival of each replica's first
	// refusal, zero if that was before it. Last is the longest.
	Lags []time.Duration
	Last time.Duration
}

// Judge looks at all probes of one round. An error is a broken promise:
//
//   - an allow that was sent after a replica's first refusal had arrived,
//   - an allow that was sent later than bound after the acknowledgement,
//   - a refusal from before the change, or none at all,
//   - any other answer.
//
// An allow counts from when its request was sent: one that was under way when the
// commit was acknowledged may still be let in.
func Judge(probes []Probe, replicas int, c Change, bound time.Duration) (Verdict, error) {
	first := make([]time.Time, replicas)
	for _, p := range probes {
		switch {
		case p.Status == 200:
		case p.Status != c.Refusal:
			return Verdict{}, fmt.Errorf("replica %d answered %d, want 200 or %d", p.Replica, p.Status, c.Refusal)
		case p.Arrived.Before(c.Issued):
			return Verdict{}, fmt.Errorf("replica %d refused %v before the change", p.Replica, c.Issued.Sub(p.Arrived))
		case first[p.Replica].IsZero() || p.Arrived.Before(first[p.Replica]):
			first[p.Replica] = p.Arrived
		}
	}
	for i, f := range first {
		if f.IsZero() {
			return Verdict{}, fmt.Errorf("replica %d never refused", i)
		}
	}
	for _, p := range probes {
		if p.Status != 200 {
			continue
		}
		if late := p.Sent.Sub(first[p.Replica]); late > 0 {
			return Verdict{}, fmt.Errorf("replica %d let a request in that was sent %v after its first refusal", p.Replica, late)
		}
		if late := p.Sent.Sub(c.Acknowledged); late > bound {
			return Verdict{}, fmt.Errorf("replica %d let a request in that was sent %v after the commit, beyond the bound of %v", p.Replica, late, bound)
		}
	}
	v := Verdict{Lags: make([]time.Duration, replicas)}
	for i, f := range first {
		v.Lags[i] = max(f.Sub(c.Acknowledged), 0)
		v.Last = max(v.Last, v.Lags[i])
	}
	return v, nil
}
