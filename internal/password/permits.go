package password

import (
	"context"
	"time"
)

const (
	// queuePerPermit bounds how many may wait for each permit.
	queuePerPermit = 16
	// queueTime bounds how long one waits.
	queueTime = 2 * time.Second
)

// permits bound how many hashes are computed at once: 32 simultaneous bcrypt
// checks on 2 processors make the slowest wait for 4 seconds and everything
// else with it.
type permits struct {
	slots   chan struct{} // one element for every permit in use
	queue   chan struct{} // one element for everyone who waits
	metrics *metrics
}

func newPermits(n int, m *metrics) *permits {
	return &permits{slots: make(chan struct{}, n), queue: make(chan struct{}, n*queuePerPermit), metrics: m}
}

func (p *permits) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		p.metrics.granted(0)
		return nil
	default:
	}
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		return ErrBusy
	}
	start := time.Now()
	patience := time.NewTimer(queueTime)
	defer patience.Stop()
	select {
	case p.slots <- struct{}{}: // senders are served in the order they came
		p.metrics.granted(time.Since(start))
		return nil
	case <-patience.C:
		return ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *permits) release() {
	p.metrics.inflight.Dec()
	<-p.slots
}

// Admit waits for a permit, at most two seconds and behind at most 16 others
// for each permit there is; beyond either the error is ErrBusy. The caller must
// release the permit, and before it waits for anything that is not the store's
// answer to "which hash?".
func (h *Hasher) Admit(ctx context.Context) (*Permit, error) {
	if err := h.permits.acquire(ctx); err != nil {
		return nil, err
	}
	return &Permit{hasher: h, granted: time.Now()}, nil
}

// Hash is Admit, Permit.Hash and Release in one.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	permit, err := h.Admit(ctx)
	if err != nil {
		return "", err
	}
	defer permit.Release()
	return permit.Hash(password)
}
