package login_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/login"
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

type hashes func() (identity.HashCounts, error)

func (h hashes) CountHashes(context.Context) (identity.HashCounts, error) { return h() }

// Nothing is said before it is known: zero would be good news.
func TestHashesOfOtherSchemesAreCounted(t *testing.T) {
	for _, tt := range []struct {
		scheme password.Scheme
		want   string
	}{{password.Argon2id, "7"}, {password.Bcrypt, "3"}} {
		t.Run(string(tt.scheme), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				s := store{sweep: func(context.Context) (int, error) { return 0, nil }}
				g := newStageWith(t, s, password.Options{Scheme: tt.scheme, BcryptCost: 4}, func(o *login.Options) {
					o.Hashes = hashes(func() (identity.HashCounts, error) {
						if asked.Add(1) == 1 {
							return identity.HashCounts{}, errors.New("connection refused")
						}
						return identity.HashCounts{Bcrypt: 7, Argon2id: 3}, nil
					})
				})
				told := func() string {
					families, err := g.registry.Gather()
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range families {
						if f.GetName() == "gatehouse_login_legacy_hashes" {
							return fmt.Sprint(f.GetMetric()[0].GetGauge().GetValue())
						}
					}
					return "nothing"
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { g.service.Sweep(ctx); close(done) }()
				synctest.Wait()
				if asked.Load() != 1 || told() != "nothing" {
					t.Errorf("at the start: asked %d times, told %s", asked.Load(), told())
				}
				<-time.After(15*time.Minute + time.Second) // on the bubble's clock
				cancel()
				<-done
				if asked.Load() != 2 || told() != tt.want {
					t.Errorf("asked %d times, told %s, want %s", asked.Load(), told(), tt.want)
				}
			})
		})
	}
}
