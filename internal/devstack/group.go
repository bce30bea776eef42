package devstack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Part is something that runs until it is stopped: a Process, a Postgres, an
// upstream in this process.
type Part interface {
	// Done is closed when the part has ended.
	Done() <-chan struct{}
	// Err says how it ended, with its name, once Done is closed.
	Err() error
	// Stop asks it to stop and returns when it has, at the end of ctx by
	// force.
	Stop(ctx context.Context) error
}

// Group is the running parts of a stack, in the order they were started. The
// zero value is an empty group. A part that ends by itself is a failure of the
// whole.
type Group struct {
	mu    sync.Mutex
	parts []Part
	died  chan struct{} // closed when first is set
	first error
}

// Add takes a part that has been started.
func (g *Group) Add(p Part) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parts = append(g.parts, p)
	died := g.diedLocked()
	go func() {
		<-p.Done()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.first == nil {
			g.first = p.Err()
			close(died)
		}
	}()
}

func (g *Group) diedLocked() chan struct{} {
	if g.died == nil {
		g.died = make(chan struct{})
	}
	return g.died
}

// Died is closed when a part has ended; Failed then says which.
func (g *Group) Died() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.diedLocked()
}

// Failed is the end of the first part that ended, nil if all run.
func (g *Group) Failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.first
}

// Wait returns nil at the end of ctx, or how the first part ended.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case <-g.Died():
		return g.Failed()
	case <-ctx.Done():
		return nil
	}
}

// Stop stops the parts in reverse order, so that none loses what it leans on
// before it has ended, each within patience and all at once at the end of ctx.
// It returns what did not go cleanly.
func (g *Group) Stop(ctx context.Context, patience time.Duration) error {
	g.mu.Lock()
	parts := g.parts
	g.parts = nil
	g.mu.Unlock()
	var faults []error
	for i := len(parts) - 1; i >= 0; i-- {
		stopping, cancel := context.WithTimeout(ctx, patience)
		if err := parts[i].Stop(stopping); err != nil {
			faults = append(faults, fmt.Errorf("stopping: %w", err))
		}
		cancel()
	}
	return errors.Join(faults...)
}
