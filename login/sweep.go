package login

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/atenex/gatehouse/internal/password"
)

const (
	// sweepEvery is how often rows are looked for that serve for nothing any more.
	sweepEvery = time.Minute
	// sweepTime bounds one statement of that.
	sweepTime = 10 * time.Second
	// sweepsAtOnce bounds one round, so that a table that was left to itself is
	// worn down over minutes and not in one go.
	sweepsAtOnce = 20
)

// Chore is something that has to be done every so often. Replicas may do it
// beside each other.
type Chore struct {
	Name  string
	Every time.Duration
	// Do is told to stop after 10 s. It says how many things it did.
	Do func(ctx context.Context) (int, error)
}

// countEvery is the pause between two counts of all password hashes, which read the
// whole table.
const countEvery = 15 * time.Minute

// countHashes says how many hashes are left to be replaced by logins.
func (s *Service) countHashes(ctx context.Context) (int, error) {
	n, err := s.with.Hashes.CountHashes(ctx)
	if err != nil {
		return 0, err
	}
	legacy := n.Bcrypt
	if s.with.Passwords.Scheme() == password.Bcrypt {
		legacy = n.Argon2id
	}
	s.metrics.legacy.WithLabelValues().Set(float64(legacy))
	return 0, nil
}

// Sweep deletes sessions that were over long ago and counters that count no more,
// every minute until ctx ends, and does the chores at their times. Replicas may do it beside each other.
func (s *Service) Sweep(ctx context.Context) {
	var chores sync.WaitGroup
	defer chores.Wait()
	for _, c := range s.with.Chores {
		chores.Go(func() { s.repeat(ctx, c) })
	}
	if s.with.Hashes != nil {
		count := Chore{Name: "count of password hashes", Every: countEvery, Do: s.countHashes}
		chores.Go(func() {
			s.doChore(ctx, count)
			s.repeat(ctx, count)
		})
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		swept, err := s.sweep(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "old sessions and counters not deleted", slog.String("error", err.Error()))
		case swept > 0:
			s.with.Logger.LogAttrs(ctx, slog.LevelDebug, "old sessions and counters deleted", slog.Int("count", swept))
		}
	}
}

// repeat does a chore until ctx ends.
func (s *Service) repeat(ctx context.Context, c Chore) {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.doChore(ctx, c)
	}
}

func (s *Service) doChore(ctx context.Context, c Chore) {
	did, err := once(ctx, c)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "chore not done", slog.String("chore", c.Name), slog.String("error", err.Error()))
	case did > 0:
		s.with.Logger.LogAttrs(ctx, slog.LevelDebug, "chore done", slog.String("chore", c.Name), slog.Int("count", did))
	}
}

func once(ctx context.Context, c Chore) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	return c.Do(ctx)
}

// sweep is one round: until nothing was found.
func (s *Service) sweep(ctx context.Context) (total int, err error) {
	for range sweepsAtOnce {
		swept, err := s.sweepOnce(ctx)
		total += swept
		if err != nil || swept == 0 {
			return total, err
		}
	}
	return total, nil
}

func (s *Service) sweepOnce(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	sessions, err := s.with.Sweeper.SweepSessions(ctx)
	if err != nil || s.with.Unthrottled {
		return sessions, err
	}
	counters, err := s.with.Throttle.SweepThrottle(ctx, s.with.Limits.Login.FamiliarFor)
	return sessions + counters, err
}
