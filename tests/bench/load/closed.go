package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Closed is a closed loop.
type Closed struct {
	Address     string // of the gate
	Connections int
	Requests    *Requests
	WarmUp      time.Duration // before anything counts
	Measure     time.Duration // at most; shorter when the requests run out
	// Mark is called as the measured time begins and as it ends, to read other
	// meters.
	Mark func() error
}

// Throughput is what a closed loop did in its measured time.
type Throughput struct {
	Answers int64
	Time    time.Duration
}

// PerSecond is the rate.
func (t Throughput) PerSecond() float64 { return float64(t.Answers) / t.Time.Seconds() }

// errTooFew tells of a measured time too short to say anything.
var errTooFew = errors.New("the requests ran out before anything was measured: more credentials are needed")

// Run measures. One wrong answer ends it with an error.
func (l Closed) Run(ctx context.Context) (Throughput, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers := make([]worker, l.Connections)
	defer func() {
		for i := range workers {
			if workers[i].conn != nil {
				_ = workers[i].conn.Close()
			}
		}
	}()
	for i := range workers {
		c, err := Dial(ctx, l.Address)
		if err != nil {
			return Throughput{}, err
		}
		workers[i].conn = c
	}

	stop := make(chan struct{}) // closed when the workers are to end
	ranOut := make(chan struct{})
	var once sync.Once
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() {
			done, err := workers[i].run(l.Requests, stop)
			if err != nil {
				cancel(fmt.Errorf("a request in the closed loop: %w", err))
			} else if done {
				once.Do(func() { close(ranOut) })
			}
		})
	}
	out, err := l.measure(ctx, workers, ranOut)
	close(stop)
	wait.Wait()
	// A worker's fault says more than the end of the context that it caused.
	if fault := context.Cause(ctx); fault != nil {
		return Throughput{}, fault
	}
	return out, err
}

func (l Closed) measure(ctx context.Context, workers []worker, ranOut <-chan struct{}) (Throughput, error) {
	if early, err := pass(ctx, l.WarmUp, ranOut); err != nil || early {
		return Throughput{}, errors.Join(err, errTooFew)
	}
	if err := l.Mark(); err != nil {
		return Throughput{}, err
	}
	start, before := time.Now(), answers(workers)
	if _, err := pass(ctx, l.Measure, ranOut); err != nil {
		return Throughput{}, err
	}
	out := Throughput{Answers: answers(workers) - before, Time: time.Since(start)}
	if err := l.Mark(); err != nil {
		return Throughput{}, err
	}
	if out.Answers == 0 || out.Time < l.Measure/4 {
		return Throughput{}, errTooFew
	}
	return out, nil
}

// pass lets time go by. early: something else came first.
func pass(ctx context.Context, d time.Duration, other <-chan struct{}) (early bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true, context.Cause(ctx)
	case <-other:
		return true, nil
	case <-timer.C:
		return false, nil
	}
}

// worker is one connection. Its counter has a cache line of its own.
type worker struct {
	conn    *Conn
	answers atomic.Int64
	_       [64]byte
}

func answers(workers []worker) (n int64) {
	for i := range workers {
		n += workers[i].answers.Load()
	}
	return n
}

// run goes on until stop, or until there are no more requests (done).
func (w *worker) run(requests *Requests, stop <-chan struct{}) (done bool, err error) {
	var request, user []byte
	for {
		select {
		case <-stop:
			return false, nil
		default:
		}
		var more bool
		if request, user, more = requests.Next(request); !more {
			return true, nil
		}
		if err := w.conn.Send(request); err != nil {
			return false, err
		}
		answer, err := w.conn.Receive()
		if err != nil {
			return false, err
		}
		if err := answer.check(user); err != nil {
			return false, err
		}
		w.answers.Add(1)
	}
}
