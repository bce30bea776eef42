package verified

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

// The model is a verifier whose keys change, a machine with two clocks, which may
// sleep and whose wall clock may be set, and requests whose buffer is used again;
// one step at a time is drawn at random. Whatever the order of steps, a cached
// verifier says exactly what the plain one says at that moment. Only while keys
// change may it still say what the old ones did.

// ticket is what the model's verifier knows of a token.
type ticket struct {
	raw                string
	notBefore, expires int64 // seconds; expires 0: no end
	roles              []string
}

type world struct {
	random  *rand.Rand
	cache   *Cache
	tickets []ticket
	buffer  []byte // that the token of a request lies in

	boot time.Time
	wall time.Duration // since boot by the wall clock
	mono time.Duration // by the other one

	keys   int    // which count
	during func() // happens while the verifier works

	asked, plain, hits, forgotten int
	fault                         string
}

const modelLeeway = 5

func newWorld(t testing.TB, seed uint64, planted flaw) *world {
	t.Helper()
	w := &world{random: rand.New(rand.NewPCG(seed, 11)), boot: time.Now()}
	c, err := New(Options{Verifier: w, Bytes: leastBytes, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	c.memory.flaw = planted
	c.memory.shards = c.memory.shards[:1]
	c.memory.shards[0].room = c.memory.shards[0].bytes + 4*400 // four tokens
	c.hash = func(raw string) uint64 { return uint64(len(raw)) }
	w.cache = c
	base := w.boot.Unix()
	for n := range 12 {
		// Three of each length, which have one hash.
		k := ticket{raw: strings.Repeat("x", 20*(n/3)+10) + fmt.Sprintf("%02d", n), notBefore: base + int64(w.random.IntN(60)) - 40}
		if n%6 != 0 {
			k.expires = base + int64(w.random.IntN(120))
		}
		for r := range n % 3 {
			k.roles = append(k.roles, fmt.Sprintf("role-%d", r))
		}
		w.tickets = append(w.tickets, k)
	}
	w.buffer = make([]byte, 256)
	return w
}

// now is what the machine's clock says, on both counts.
func (w *world) now() time.Time {
	t := w.boot.Add(w.mono)
	if w.wall == w.mono {
		return t
	}
	return set(t, w.wall-w.mono)
}

// set gives t another wall clock under the same monotonic reading, which package
// time has no way to make: the two words of a time.Time that has one are 33 bits
// of seconds and 30 of nanoseconds, and the reading.
func set(t time.Time, by time.Duration) time.Time {
	words := (*[2]uint64)(unsafe.Pointer(&t))
	const nanoBits, nanoMask = 30, 1<<30 - 1
	nano := int64(words[0]&nanoMask) + int64(words[0]>>nanoBits&(1<<33-1))*int64(time.Second) + int64(by)
	words[0] = 1<<63 | uint64(nano/int64(time.Second))<<nanoBits | uint64(nano%int64(time.Second))
	return t
}

// judge is the oracle: what is true of a token under the keys that count.
func (w *world) judge(raw string, now time.Time) (identity.Credential, error) {
	at := now.Round(0).Unix()
	for n, k := range w.tickets {
		switch {
		case k.raw != raw:
			continue
		case (n+w.keys)%5 == 0:
			return identity.Credential{}, problem.TokenSignature
		case k.expires != 0 && at >= k.expires+modelLeeway:
			return identity.Credential{}, problem.TokenExpired
		case at < k.notBefore-modelLeeway:
			return identity.Credential{}, problem.TokenNotYetValid
		}
		c := identity.Credential{User: identity.UserID{byte(n), byte(w.keys)}, Email: raw[:8], Roles: append([]string(nil), k.roles...)}
		if k.expires != 0 {
			c.ExpiresAt = time.Unix(k.expires, 0).UTC()
		}
		return c, nil
	}
	return identity.Credential{}, problem.TokenMalformed
}

// Verify is the verifier that the cache asks. It reads its keys at one moment of
// its work, and other things happen before and after.
func (w *world) Verify(raw string, now time.Time) (identity.Credential, error) {
	w.plain++
	during := w.during
	w.during = nil
	early := w.random.IntN(2) == 0
	if during != nil && early {
		during()
	}
	c, err := w.judge(raw, now)
	if during != nil && !early {
		during()
	}
	return c, err
}

// ask puts a token through the cache as a request does: in a buffer that is
// overwritten afterwards.
func (w *world) ask() {
	k := w.tickets[w.random.IntN(len(w.tickets))].raw
	if w.random.IntN(20) == 0 {
		k = k[:len(k)-1] + "?"
	}
	buffer := w.buffer[:len(k)]
	copy(buffer, k)
	now := w.now()
	want, wantErr := w.judge(k, now)
	keys, plain := w.keys, w.plain
	got, err := w.cache.Verify(unsafe.String(&buffer[0], len(buffer)), now)
	w.asked++
	if w.plain == plain {
		w.hits++
	}
	if w.keys == keys { // else either is right
		if !errors.Is(err, wantErr) || !reflect.DeepEqual(want, got) {
			w.fault = fmt.Sprintf("%s at %s (keys %d, asked plainly: %v): %+v, %v; want %+v, %v",
				k, now.Round(0), w.keys, w.plain != plain, got, err, want, wantErr)
		}
	}
	clear(buffer)
}

// change is how keys change: first the verifier's, then Forget.
func (w *world) change() {
	w.keys++
	w.forgotten++
	w.cache.Forget()
}

func (w *world) step() {
	switch n := w.random.IntN(100); {
	case n < 86:
		w.ask()
	case n < 88:
		w.during = w.change
	case n < 89:
		w.change()
	case n < 96:
		passed := time.Duration(w.random.IntN(4000)) * time.Millisecond
		w.wall, w.mono = w.wall+passed, w.mono+passed
	case n < 97:
		w.wall += time.Duration(w.random.IntN(20)) * time.Second // asleep
	default:
		w.wall += time.Duration(w.random.IntN(40)-20) * time.Second // set
	}
}

func (w *world) run(steps int) {
	for range steps {
		if w.step(); w.fault != "" {
			return
		}
	}
}

func (w *world) evicted() float64 { return testutil.ToFloat64(w.cache.observer.evictions) }

func TestTheModelSetsTheWallClockAlone(t *testing.T) {
	before := time.Now()
	for _, by := range []time.Duration{-time.Hour, -1, 0, 1, 90 * time.Minute} {
		after := set(before, by)
		if after.Sub(before) != 0 || !after.Round(0).Equal(before.Round(0).Add(by)) {
			t.Errorf("%s: %s became %s", by, before, after)
		}
	}
}

func TestACachedVerifierSaysWhatThePlainOneSays(t *testing.T) {
	t.Parallel()
	var asked, hits, forgotten int
	var evicted float64
	for seed := range uint64(200) {
		w := newWorld(t, seed, flawNone)
		w.run(400)
		if w.fault != "" {
			t.Fatalf("seed %d: %s", seed, w.fault)
		}
		asked, hits, forgotten, evicted = asked+w.asked, hits+w.hits, forgotten+w.forgotten, evicted+w.evicted()
	}
	if hits < 10_000 || forgotten < 500 || evicted < 1000 {
		t.Errorf("%d hits of %d, %d times forgotten, %v evicted: the model hardly tries", hits, asked, forgotten, evicted)
	}
}

// The model is only worth something if it finds what it is there for.
func TestTheModelFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	for name, planted := range map[string]flaw{
		"without the fence":                    flawNoFence,
		"valid before the verification":        flawNoStart,
		"valid past the token's end":           flawNoEnd,
		"by the monotonic clock":               flawMonotonic,
		"a token known by its hash":            flawHashOnly,
		"a token that lies in another's bytes": flawAlias,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(200) {
				w := newWorld(t, seed, planted)
				if w.run(400); w.fault != "" {
					t.Logf("seed %d: %s", seed, w.fault)
					return
				}
			}
			t.Error("no run shows the bug")
		})
	}
}

// Property: a cached verifier says exactly what the plain one says, for any
// interleaving that the seed draws.
func FuzzACachedVerifierSaysWhatThePlainOneSays(f *testing.F) {
	f.Add(uint64(1), uint(400))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint) {
		w := newWorld(t, seed, flawNone)
		if w.run(int(steps % 2000)); w.fault != "" {
			t.Fatal(w.fault)
		}
	})
}
