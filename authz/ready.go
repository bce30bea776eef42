package authz

import (
	"context"
	"time"
)

const (
	// readyPoll is how often a directory that does not answer yet is asked.
	readyPoll = 100 * time.Millisecond
	// readyPing bounds one such question.
	readyPing = time.Second
)

// Ready turns true with the first answer of the directory and then stays true:
// if a database outage made authz unready, every replica would leave the load
// balancer at once, and no request would be answered at all. A gate that asks
// no directory is ready from the start.
func (g *Gate) Ready() bool { return g.ready.Load() }

// WatchReady asks ping until the gate is ready, by that or by a check that was
// answered meanwhile, calls onReady once and returns. It returns without calling
// it when ctx ends.
func (g *Gate) WatchReady(ctx context.Context, ping func(context.Context) error, onReady func()) {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for !g.ready.Load() {
		if pinged(ctx, ping) {
			g.ready.Store(true)
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	onReady()
}

func pinged(ctx context.Context, ping func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, readyPing)
	defer cancel()
	return ping(ctx) == nil
}
