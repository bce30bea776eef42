package login_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOldSessionsAreSweptEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sweeps []time.Duration
		start := time.Now()
		left := 3
		g := newStage(t, store{sweep: func(context.Context) (int, error) {
			sweeps = append(sweeps, time.Since(start))
			switch left--; {
			case left > 0:
				return 500, nil
			case left == -1:
				return 0, errors.New("connection refused")
			}
			return 0, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { g.service.Sweep(ctx); close(done) }()
		<-time.After(2*time.Minute + time.Second) // on the bubble's clock
		cancel()
		<-done
		want := []time.Duration{time.Minute, time.Minute, time.Minute, 2 * time.Minute}
		if len(sweeps) != len(want) {
			t.Fatalf("swept at %v, want %v", sweeps, want)
		}
		for i := range want {
			if sweeps[i] != want[i] {
				t.Errorf("swept at %v, want %v", sweeps, want)
			}
		}
		if log := g.log.String(); strings.Count(log, "WARN") != 1 || !strings.Contains(log, "connection refused") {
			t.Errorf("the failure was not logged once: %s", log)
		}
	})
}
