package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Paced sends at a fixed rate, whatever the answers do. A latency counts from the
// time when its request should have been sent: if the gate stalls, every request
// that had to wait for a connection meanwhile shows it (no coordinated omission).
type Paced struct {
	Address     string
	Connections int // as many may be under way; more wait, and their time counts
	Requests    *Requests
	PerSecond   int
	WarmUp      time.Duration
	Measure     time.Duration
	Mark        func() error // as in Closed
	// Stop, when closed, ends the run early and in order; nil: nothing does.
	Stop <-chan struct{}
}

// Timing is what a paced run measured.
type Timing struct {
	Latencies []time.Duration
	// Late is how long after its time each request was written, which is part of
	// its latency: the machine's, or a wait for a connection.
	Late []time.Duration
}

// slot is one connection and what is under way on it.
type slot struct {
	conn     *Conn
	due      time.Time
	measured bool
	request  []byte
	user     []byte
	sent     chan struct{}
	timings  []time.Duration
}

// Run measures. One wrong answer ends it with an error.
func (l Paced) Run(ctx context.Context) (Timing, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	free := make(chan *slot, l.Connections)
	slots := make([]*slot, 0, l.Connections)
	defer func() {
		for _, s := range slots {
			_ = s.conn.Close()
		}
	}()
	for range l.Connections {
		c, err := Dial(ctx, l.Address)
		if err != nil {
			return Timing{}, err
		}
		s := &slot{conn: c, sent: make(chan struct{}, 1)}
		slots = append(slots, s)
		free <- s
	}

	var wait sync.WaitGroup
	for _, s := range slots {
		wait.Go(func() {
			for range s.sent {
				if err := s.receive(); err != nil {
					cancel(fmt.Errorf("a request at a fixed rate: %w", err))
					return
				}
				free <- s
			}
		})
	}
	late, err := l.send(ctx, free)
	for _, s := range slots {
		close(s.sent)
	}
	wait.Wait()
	if fault := context.Cause(ctx); fault != nil {
		return Timing{}, fault
	}
	if err != nil {
		return Timing{}, err
	}
	out := Timing{Late: late}
	for _, s := range slots {
		out.Latencies = append(out.Latencies, s.timings...)
	}
	if len(out.Latencies) != len(late) {
		return Timing{}, fmt.Errorf("%d answers to %d requests", len(out.Latencies), len(late))
	}
	return out, nil
}

func (s *slot) receive() error {
	answer, err := s.conn.Receive()
	if err != nil {
		return err
	}
	took := time.Since(s.due)
	if err := answer.check(s.user); err != nil {
		return err
	}
	if s.measured {
		s.timings = append(s.timings, took)
	}
	return nil
}

// send keeps the pace. It has a thread of its own that sleeps in the kernel: a
// timer of Go's wakes up to a millisecond late where epoll counts in those.
func (l Paced) send(ctx context.Context, free <-chan *slot) (late []time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	interval := time.Second / time.Duration(l.PerSecond)
	warm, total := int(l.WarmUp/interval), int((l.WarmUp+l.Measure)/interval)
	late = make([]time.Duration, 0, total-warm)
	start := time.Now().Add(interval)
	for i := range total {
		due := start.Add(time.Duration(i) * interval)
		if err := until(due); err != nil {
			return nil, err
		}
		select {
		case <-l.Stop:
			return late, nil
		default:
		}
		if i == warm {
			if err := l.Mark(); err != nil {
				return nil, err
			}
		}
		var s *slot
		select {
		case s = <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		s.due, s.measured = due, i >= warm
		var more bool
		if s.request, s.user, more = l.Requests.Next(s.request); !more {
			return nil, errTooFew
		}
		if s.measured {
			late = append(late, time.Since(due))
		}
		if err := s.conn.Send(s.request); err != nil {
			return nil, err
		}
		s.sent <- struct{}{}
	}
	return late, l.Mark()
}

// until sleeps to a point in time, and not at all if it has passed.
func until(due time.Time) error {
	for {
		left := time.Until(due)
		if left <= 0 {
			return nil
		}
		nap := syscall.NsecToTimespec(int64(left))
		if err := syscall.Nanosleep(&nap, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("sleeping: %w", err)
		}
	}
}
