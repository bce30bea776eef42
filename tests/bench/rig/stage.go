package rig

import (
	"context"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
)

// Stage is an Envoy and the servers behind it, for one part of the benchmark:
// what no part needs any more should not run beside the next.
type Stage struct {
	rig    *Rig
	group  devstack.Group
	cancel context.CancelCauseFunc
}

// Stage begins an empty one. The context that it returns ends, with the reason,
// when one of its processes or PostgreSQL ends by itself.
func (r *Rig) Stage(ctx context.Context) (*Stage, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &Stage{rig: r, cancel: cancel}
	died := s.group.Died()
	go func() {
		select {
		case <-died:
			cancel(s.group.Failed())
		case <-r.postgres.Done():
			cancel(r.postgres.Err())
		case <-ctx.Done():
		}
	}()
	return s, ctx
}

// Close stops what runs on the stage, the last one first.
func (s *Stage) Close() error {
	s.cancel(nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.group.Stop(ctx, 15*time.Second)
}
