package starved

import (
	"os"
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
		ok         bool
	}{
		{"the time in which something waited", "some avg10=39.35 avg60=31.39 avg300=16.88 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", 1500 * time.Millisecond, true},
		{"not the time in which all did", "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", 0, false},
		{"nothing where it is switched off", "", 0, false},
		{"nothing of what is no number", "some total=x\n", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := parse([]byte(c.text)); ok != c.ok || ok && got != c.want {
				t.Errorf("got %v, %v, want %v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestABusyMachineLosesTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		pressure func() time.Duration
	}{
		{"by what the kernel says", pressure},
		{"by what a goroutine sees", func() time.Duration { return -1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat("/proc/pressure/cpu"); err != nil && c.pressure() != -1 {
				t.Skip("this kernel does not say")
			}
			// More that works than there are processors, for as long as it takes.
			old := runtime.GOMAXPROCS(4 * runtime.NumCPU())
			defer runtime.GOMAXPROCS(old)
			m := begin(t, c.pressure)
			var enough atomic.Bool
			var all sync.WaitGroup
			for range 4 * runtime.NumCPU() {
				all.Go(func() {
					for !enough.Load() {
					}
				})
			}
			began := time.Now()
			for m.Lost() < 20*time.Millisecond && time.Since(began) < 30*time.Second {
				runtime.Gosched()
			}
			enough.Store(true)
			all.Wait()
			if lost, passed := m.Lost(), time.Since(m.began); lost < 20*time.Millisecond || lost > passed {
				t.Errorf("%v of %v lost", lost, passed)
			}
		})
	}
}
