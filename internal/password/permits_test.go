package password_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atenex/gatehouse/internal/password"
)

func TestHowManyPermits(t *testing.T) {
	mib := func(n int64) int64 { return n << 20 }
	whole := password.Argon2idCost{MemoryKiB: 32 << 10, Passes: 3, Lanes: 1}
	tests := []struct {
		name    string
		options password.Options
		want    int
	}{
		{"one processor still has one permit", password.Options{Processors: 1}, 1},
		{"one processor is left to the rest", password.Options{Processors: 8}, 7},
		{"a quarter of the memory bounds them", password.Options{Processors: 8, Argon2id: whole, MemoryLimit: mib(512)}, 4},
		{"the division rounds down", password.Options{Processors: 8, Argon2id: whole, MemoryLimit: mib(511)}, 3},
		{"very little memory still has one permit", password.Options{Processors: 8, Argon2id: whole, MemoryLimit: mib(16)}, 1},
		{"bcrypt needs no memory", password.Options{Processors: 8, Argon2id: whole, MemoryLimit: mib(16), Scheme: password.Bcrypt}, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHasher(t, tt.options)
				got := 0
				for {
					// The one beyond waits out its two seconds on the bubble's clock.
					if _, err := h.Admit(t.Context()); err != nil {
						break
					}
					got++
				}
				if got != tt.want {
					t.Errorf("%d permits, want %d", got, tt.want)
				}
			})
		})
	}
}

// M6: hashes at once make each other slow, so that few are, and few wait.
func TestTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(t, password.Options{Processors: 2})
		holder, err := h.Admit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		type outcome struct {
			err    error
			waited time.Duration
		}
		outcomes := make(chan outcome, 16)
		start := time.Now()
		for range 16 {
			go func() {
				permit, err := h.Admit(t.Context())
				outcomes <- outcome{err, time.Since(start)}
				if err == nil {
					permit.Release()
				}
			}()
		}
		synctest.Wait()

		if _, err := h.Admit(t.Context()); !errors.Is(err, password.ErrBusy) {
			t.Errorf("the seventeenth in line got %v, want ErrBusy", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the seventeenth in line waited %v, want to be refused at once", waited)
		}
		for range 16 {
			if got := <-outcomes; !errors.Is(got.err, password.ErrBusy) || got.waited != 2*time.Second {
				t.Errorf("got %v after %v, want ErrBusy after 2 s", got.err, got.waited)
			}
		}

		go func() {
			<-time.After(time.Second) // on the bubble's clock
			holder.Release()
			holder.Release() // harmless
		}()
		permit, err := h.Admit(t.Context())
		if err != nil {
			t.Fatalf("a permit that came free within two seconds was not given: %v", err)
		}
		if _, err := h.Admit(t.Context()); !errors.Is(err, password.ErrBusy) {
			t.Errorf("releasing twice made a second permit: %v", err)
		}
		permit.Release()
	})
}

func TestAClientThatHangsUpFreesNoPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(t, password.Options{Processors: 1})
		client, hangUp := context.WithCancel(t.Context())
		permit, err := h.Admit(client)
		if err != nil {
			t.Fatal(err)
		}
		hangUp()
		if _, err := h.Admit(t.Context()); !errors.Is(err, password.ErrBusy) {
			t.Errorf("got %v, want ErrBusy: the hash still runs", err)
		}
		if _, err := h.Admit(client); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v: one who hung up must leave the queue", err)
		}
		permit.Release()
		if _, err := h.Admit(t.Context()); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}
