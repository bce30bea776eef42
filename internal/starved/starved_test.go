package starved

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestWhatTheKernelSaysIsRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       time.Duration
	}{
		{"the time in which something waited", "some avg10=39.35 avg60=31.39 avg300=16.88 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", 1500 * time.Millisecond},
		{"not the time in which all did", "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", 0},
		{"nothing where it is switched off", "", 0},
		{"nothing of what is no number", "some total=x\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := parse([]byte(c.text)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWhatWasLostDoesNotCount(t *testing.T) {
	t.Parallel()
	waited := time.Duration(0)
	w := begin(t, func() time.Duration { return waited })
	if w.Took() > time.Since(w.began) {
		t.Errorf("%v, which is more than has passed", w.Took())
	}
	waited = time.Hour
	if lost, took := w.Lost(), w.Took(); lost > time.Since(w.began) || took > lost {
		t.Errorf("all of it was lost: %v lost, %v counted", lost, took)
	}
	if lost := w.Again().Lost(); lost >= time.Hour {
		t.Errorf("%v lost since a moment ago", lost)
	}
}

func TestABusyMachineLosesTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		pressure func() time.Duration
	}{
		{"by what the kernel says, if it does", pressure},
		{"by what a goroutine sees", func() time.Duration { return 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			// More that works than there are processors, for as long as it takes.
			old := runtime.GOMAXPROCS(4 * runtime.NumCPU())
			defer runtime.GOMAXPROCS(old)
			w := begin(t, c.pressure)
			var enough atomic.Bool
			var all sync.WaitGroup
			for range 4 * runtime.NumCPU() {
				all.Go(func() {
					for !enough.Load() {
					}
				})
			}
			for w.Lost() < 20*time.Millisecond && time.Since(w.began) < 30*time.Second {
				runtime.Gosched()
			}
			enough.Store(true)
			all.Wait()
			if lost := w.Lost(); lost < 20*time.Millisecond {
				t.Errorf("%v of %v lost", lost, time.Since(w.began))
			}
		})
	}
}
