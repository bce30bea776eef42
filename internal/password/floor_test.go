package password

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestTheFloorRises(t *testing.T) {
	const ms = time.Millisecond
	type seen struct {
		row     stored
		elapsed time.Duration
	}
	argon := argon2idHash{cost: defaultArgon2id()}
	cost := func(n int) stored { return bcryptHash{cost: n} }
	tests := []struct {
		name  string
		seen  []seen
		want  time.Duration // at once
		later time.Duration // after raisedFor
	}{
		{"nothing measured", nil, 250 * ms, 250 * ms},
		{"fast hashes leave the least floor", []seen{{argon, 65 * ms}}, 250 * ms, 250 * ms},
		{"1.3 times the slowest, rounded up to 50 ms", []seen{{argon, 65 * ms}, {cost(12), 241 * ms}}, 350 * ms, 350 * ms},
		{"a dearer row raises it for good", []seen{{cost(12), 241 * ms}, {cost(14), 950 * ms}}, 1250 * ms, 1250 * ms},
		{"what was slow once and is not is forgotten", []seen{{cost(12), 1700 * ms}, {argon, 400 * ms}, {cost(12), 241 * ms}, {argon, 65 * ms}}, 350 * ms, 350 * ms},
		{"a cheaper row says nothing of a dear one", []seen{{cost(12), 1700 * ms}, {cost(10), 60 * ms}, {argon, 65 * ms}}, 2250 * ms, 2250 * ms},
		{"a cheaper row leaves it", []seen{{cost(12), 241 * ms}, {cost(10), 60 * ms}}, 350 * ms, 350 * ms},
		{"a slow moment raises it for a while", []seen{{cost(12), 241 * ms}, {cost(12), 400 * ms}}, 550 * ms, 350 * ms},
		{"a slow moment of a cheap row raises it for a while", []seen{{cost(12), 241 * ms}, {argon, 65 * ms}, {argon, 400 * ms}}, 550 * ms, 350 * ms},
		{"the slowest of slow moments counts", []seen{{cost(12), 241 * ms}, {cost(12), 500 * ms}, {cost(12), 400 * ms}}, 650 * ms, 350 * ms},
		{"ordinary noise leaves it", []seen{{cost(12), 241 * ms}, {cost(12), 290 * ms}}, 350 * ms, 350 * ms},
		{"a stall does not raise it beyond bearing", []seen{{cost(12), 241 * ms}, {cost(12), time.Minute}}, 3 * time.Second, 350 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			f := newFloor()
			for _, s := range tt.seen {
				f.observe(s.row, s.elapsed, now)
			}
			if got := f.at(now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := f.at(now.Add(raisedFor)); got != tt.later {
				t.Errorf("later got %v, want %v", got, tt.later)
			}
		})
	}
}

func TestARefusalIsDueAfterTheFloorFromThePermitOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Options{Processors: 1})
		if err != nil {
			t.Fatal(err)
		}
		first, err := h.Admit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-time.After(time.Second) // on the bubble's clock
			first.Release()
		}()
		second, err := h.Admit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		granted := time.Now()
		distinct := map[time.Duration]bool{}
		for range 100 {
			after := second.FailureDue().Sub(granted)
			if after < minFloor || after >= minFloor+jitter {
				t.Fatalf("due %v after the grant, want within %v and %v", after, minFloor, minFloor+jitter)
			}
			distinct[after] = true
		}
		if len(distinct) < 2 {
			t.Error("the moment never varies")
		}
	})
}

func TestCalibration(t *testing.T) {
	tests := []struct {
		name    string
		highest int
		want    uint64 // work of the bcrypt that was measured
	}{
		{"a table of cheap hashes", 5, 1 << 5},
		{"a cost that is never computed counts as one below the bounds", 1, 1 << 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			h, err := New(Options{
				Argon2id: Argon2idCost{MemoryKiB: 64, Passes: 1, Lanes: 1},
				Logger:   slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Calibrate(t.Context(), tt.highest); err != nil {
				t.Fatal(err)
			}
			if got := h.floor.measured[Bcrypt].work; got != tt.want {
				t.Errorf("bcrypt was measured with work %d, want %d", got, tt.want)
			}
			if got := h.floor.measured[Argon2id].work; got != 64 {
				t.Errorf("argon2id was measured with work %d, want 64", got)
			}
			for _, want := range []string{"current_ms=", "bcrypt_ms=", "floor_ms="} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log %q lacks %s", &log, want)
				}
			}
		})
	}
}

func TestABusyStartIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // nothing takes any time on the bubble's clock
		h, err := New(Options{Argon2id: Argon2idCost{MemoryKiB: 64, Passes: 1, Lanes: 1}})
		if err != nil {
			t.Fatal(err)
		}
		h.floor.observe(decoyBcrypt(5), 1700*time.Millisecond, time.Now())
		if got := h.Floor(); got != 2250*time.Millisecond {
			t.Fatalf("a floor of %v", got)
		}
		start := time.Now()
		h.Settle(t.Context())
		if got, took := h.Floor(), time.Since(start); got != minFloor || took != settleAfter {
			t.Errorf("a floor of %v after %v, want %v after %v", got, took, minFloor, settleAfter)
		}
		if got := h.floor.highest(); got != 5 {
			t.Errorf("bcrypt was measured at cost %d, want 5", got)
		}

		// What is slow by itself is looked at for half an hour, and then no more.
		h.floor.observe(argon2idHash{cost: defaultArgon2id()}, 900*time.Millisecond, time.Now()) // a row that no decoy equals
		start = time.Now()
		h.Settle(t.Context())
		if got, took := h.Floor(), time.Since(start); got <= slowHash || took < settleUntil || took > 2*settleUntil {
			t.Errorf("a floor of %v after %v", got, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.Settle(ctx)
	})
}

func TestDecoysAreComputedToTheEnd(t *testing.T) {
	decoy := decoyBcrypt(4)
	if _, usable := parse(decoy.text); !usable {
		t.Fatalf("%q would not be computed", decoy.text)
	}
	if err := bcrypt.CompareHashAndPassword([]byte(decoy.text), []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("got %v, want a mismatch after the whole computation", err)
	}
	argon := argon2idHash{cost: defaultArgon2id(), salt: random(saltLength), key: random(keyLength)}
	if _, usable := parse(argon.String()); !usable {
		t.Errorf("%q would not be computed", argon)
	}
}
