package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/starved"
)

// patience is how long a condition is waited for that must come true, however busy
// the machine is.
const patience = time.Minute

// machine is watched for as long as the package's tests run.
var machine = sync.OnceValue(func() starved.Watch { return starved.Begin(ground) })

// stopwatch measures what is held to a bound in time. Where the machine is busy with
// other tests, it counts what this one had of it.
func stopwatch() starved.Watch { return machine().Again() }

// overdue reports whether more than that has passed, or so much more that no other
// test excuses it.
func overdue(w starved.Watch, limit time.Duration) bool {
	return w.Took() > limit || w.Passed() > limit+patience
}

// eventually waits, with a deadline, for f to stop failing.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	within(t, patience, what, f)
}

// within is for conditions that the contract gives a time.
func within(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	watch := stopwatch()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if overdue(watch, limit) {
			t.Fatalf("%s: not within %v (%v have passed): %v", what, limit, watch.Passed(), err)
		}
		<-tick.C
	}
}

var nextPort atomic.Uint32

// freeAddress is a loopback address on which nothing listens. It lies below the
// range from which the kernel takes ports for connections: one of those could
// be gone again by the time a program listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := 12000 + (uint32(os.Getpid())*131+nextPort.Add(1))%20000
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		return address
	}
	t.Fatal("no free port")
	return ""
}

// record keeps what a program writes.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *record) tail(n int) string {
	s := r.String()
	return s[max(0, len(s)-n):]
}

// find returns the first JSON line whose field has this value.
func (r *record) find(field, value string) (map[string]any, error) {
	for line := range strings.Lines(r.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && fmt.Sprint(m[field]) == value {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no line with %s = %s", field, value)
}
