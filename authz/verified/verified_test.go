package verified_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/authz/verified"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

var start = time.Unix(1_800_000_000, 0).UTC()

// counting says one thing of every token and keeps count.
type counting struct {
	say   func(raw string) (identity.Credential, error)
	asked atomic.Int64
}

func (c *counting) Verify(raw string, _ time.Time) (identity.Credential, error) {
	c.asked.Add(1)
	return c.say(raw)
}

// anHour accepts every token for an hour, as the user that its first byte names.
func anHour(raw string) (identity.Credential, error) {
	return identity.Credential{
		User: identity.UserID{raw[0]}, Company: identity.CompanyID{1}, Email: "ana@x.test", Roles: []string{"user", "admin"},
		Session: identity.SessionID{2}, HasSession: true, IssuedAt: start.Add(-time.Minute), ExpiresAt: start.Add(time.Hour), KeyNamed: true,
	}, nil
}

type fixture struct {
	*verified.Cache
	registry *prometheus.Registry
}

func newCache(t testing.TB, v verified.Verifier, bytes int64) fixture {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	c, err := verified.New(verified.Options{Verifier: v, Bytes: bytes, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	return fixture{c, registry}
}

func (f fixture) accepts(t testing.TB, raw string, at time.Time) {
	t.Helper()
	if _, err := f.Verify(raw, at); err != nil {
		t.Errorf("%.20q: %v", raw, err)
	}
}

func (f fixture) metric(t testing.TB, name string) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "gatehouse_authz_token_cache_"+name {
			return family.GetMetric()[0].GetCounter().GetValue() + family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestHowLongATokenIsRemembered(t *testing.T) {
	// With the monotonic reading of this process, as the gate's clock has it.
	running := time.Now()
	suspended := func(d time.Duration) time.Time { return running.Round(0).Add(d) } // the wall clock went on alone
	cases := []struct {
		name           string
		expires        time.Time
		verified, then time.Time
		want           bool
	}{
		{"at the same moment", start.Add(time.Hour), start, start, true},
		{"just before its end", start.Add(time.Hour), start, start.Add(time.Hour - 1), true},
		{"at its end", start.Add(time.Hour), start, start.Add(time.Hour), false},
		{"the clock was set back before the verification", start.Add(time.Hour), start, start.Add(-1), false},
		{"the clock was set back, but not that far", start.Add(time.Hour), start, start.Add(1), true},
		{"it has ended, and was accepted within the leeway", start, start, start, false},
		{"it ended long ago, and was accepted within the leeway", start.Add(-time.Minute), start, start, false},
		{"it has no end", time.Time{}, start, start, false},
		{"it ends in the year 9999", time.Unix(253402300799, 0), start, start.AddDate(7000, 0, 0), true},
		{"a running clock, before its end", running.Round(0).Add(time.Hour), running, running.Add(time.Minute), true},
		{"a running clock, at its end", running.Round(0).Add(time.Hour), running, running.Add(time.Hour), false},
		{"a machine that slept past its end", running.Round(0).Add(time.Hour), running, suspended(time.Hour), false},
		{"a machine whose clock was set back before the verification", running.Round(0).Add(time.Hour), running, suspended(-time.Second), false},
		{"an end with a monotonic reading", running.Add(time.Hour), running, suspended(time.Hour), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inner := &counting{say: func(string) (identity.Credential, error) {
				return identity.Credential{User: identity.UserID{1}, ExpiresAt: c.expires}, nil
			}}
			f := newCache(t, inner, 0)
			for _, at := range []time.Time{c.verified, c.then} {
				got, err := f.Verify("token", at)
				if err != nil || got.User != (identity.UserID{1}) || got.ExpiresAt != c.expires {
					t.Fatalf("got %+v, %v", got, err)
				}
			}
			if got := inner.asked.Load() == 1; got != c.want {
				t.Errorf("the verifier was asked %d times, want remembered: %v", inner.asked.Load(), c.want)
			}
		})
	}
}

func TestARememberedTokenSaysWhatItSaidAndCountsAsAHit(t *testing.T) {
	inner := &counting{say: anHour}
	f := newCache(t, inner, 0)
	want, _ := anHour("a")
	for range 3 {
		got, err := f.Verify("a-token", start)
		if err != nil {
			t.Fatal(err)
		}
		want.User = identity.UserID{'a'}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for name, want := range map[string]float64{"hits_total": 2, "misses_total": 1, "evictions_total": 0, "entries": 1} {
		if got := f.metric(t, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestOnlyTheWholeTokenIsRemembered(t *testing.T) {
	inner := &counting{say: anHour}
	f := newCache(t, inner, 0)
	tokens := []string{"a.b.c", "a.b.", "a.b.C", "a.b.c ", "A.b.c", "a.b.c.c", "b.b.c", strings.Repeat("a", 4000), strings.Repeat("a", 3999) + "b"}
	for _, raw := range tokens {
		f.accepts(t, raw, start)
	}
	if got := int(inner.asked.Load()); got != len(tokens) {
		t.Errorf("%d of %d tokens were verified", got, len(tokens))
	}
	for _, raw := range tokens {
		if got, err := f.Verify(raw, start); err != nil || got.User[0] != raw[0] {
			t.Errorf("%.9q is %v, %v", raw, got.User, err)
		}
	}
	if got := int(inner.asked.Load()); got != len(tokens) {
		t.Errorf("%d of %d tokens were remembered", 2*len(tokens)-got, len(tokens))
	}
}

func TestARefusalIsNeverRemembered(t *testing.T) {
	refuse := true
	inner := &counting{say: func(raw string) (identity.Credential, error) {
		if refuse {
			return identity.Credential{}, problem.TokenNotYetValid
		}
		return anHour(raw)
	}}
	f := newCache(t, inner, 0)
	for range 2 {
		if _, err := f.Verify("token", start); !errors.Is(err, problem.TokenNotYetValid) {
			t.Fatalf("got %v", err)
		}
	}
	refuse = false
	if _, err := f.Verify("token", start); err != nil || inner.asked.Load() != 3 {
		t.Errorf("got %v after %d verifications", err, inner.asked.Load())
	}
	if f.metric(t, "misses_total") != 3 || f.metric(t, "hits_total") != 0 {
		t.Error("a refusal is not counted as a miss")
	}
}

func TestForgetEndsWhatIsRememberedAndWhatIsUnderWay(t *testing.T) {
	var during func()
	inner := &counting{say: func(raw string) (identity.Credential, error) {
		if during != nil {
			during()
		}
		return anHour(raw)
	}}
	f := newCache(t, inner, 0)
	empty := f.metric(t, "bytes")
	verify := func(raw string, want int64) {
		t.Helper()
		before := inner.asked.Load()
		if _, err := f.Verify(raw, start); err != nil || inner.asked.Load()-before != want {
			t.Fatalf("%v, %d verifications, want %d", err, inner.asked.Load()-before, want)
		}
	}
	verify("a", 1)
	verify("b", 1)
	verify("a", 0)
	f.Forget()
	if f.metric(t, "entries") != 0 || f.metric(t, "bytes") != empty {
		t.Error("what was forgotten is still there")
	}
	during = f.Forget
	verify("a", 1)
	verify("b", 1)
	during = nil
	verify("a", 1)
	verify("a", 0)
}

// The request's buffer is overwritten as soon as the check is over; what the
// caller was given is the caller's.
func TestNothingOfACallerIsKept(t *testing.T) {
	buffer := []byte("a-token ana@x.test admin")
	text := unsafe.String(&buffer[0], len(buffer))
	inner := &counting{say: func(string) (identity.Credential, error) {
		return identity.Credential{Email: text[8:18], Roles: []string{text[19:]}, ExpiresAt: start.Add(time.Hour)}, nil
	}}
	f := newCache(t, inner, 0)
	first, err := f.Verify(text[:7], start)
	if err != nil {
		t.Fatal(err)
	}
	first.Roles[0] = "changed"
	clear(buffer)
	got, err := f.Verify("a-token", start)
	if err != nil || inner.asked.Load() != 1 {
		t.Fatalf("%v after %d verifications", err, inner.asked.Load())
	}
	want := identity.Credential{Email: "ana@x.test", Roles: []string{"admin"}, ExpiresAt: start.Add(time.Hour)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if cap(got.Roles) != len(got.Roles) {
		t.Error("who appends to the roles writes into memory")
	}
}

func TestWhatHasEndedDoesNotCrowdOutWhatHasNot(t *testing.T) {
	end := start.Add(time.Minute)
	inner := &counting{say: func(raw string) (identity.Credential, error) {
		c := identity.Credential{ExpiresAt: end}
		if raw[0] == 'l' {
			c.ExpiresAt = end.Add(time.Hour)
		}
		return c, nil
	}}
	f := newCache(t, inner, 1<<20)
	raw := func(kind string, n int) string { return kind + fmt.Sprintf("%0399d", n) }
	for n := range 5000 { // several times what there is room for, all asked for often
		f.accepts(t, raw("short", n), start)
		f.accepts(t, raw("short", n), start)
	}
	full := int(f.metric(t, "entries"))
	if f.metric(t, "evictions_total") == 0 {
		t.Fatal("memory is not full")
	}
	live := full / 2
	for range 2 {
		for n := range live {
			f.accepts(t, raw("long", n), end)
		}
	}
	before := inner.asked.Load()
	for n := range live {
		f.accepts(t, raw("long", n), end)
	}
	// Tokens are spread by chance, so that some shards have more than their share.
	if again := inner.asked.Load() - before; again > int64(live)/20 {
		t.Errorf("%d of %d live tokens were forgotten, though they need half of the room", again, live)
	}
}

func TestTheBoundHolds(t *testing.T) {
	const bytes = 4 << 20
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, c := range []struct {
		name   string
		length int
		roles  int
	}{
		{"short tokens", 40, 0},
		{"ordinary tokens", 400, 1},
		{"tokens that fit no size of the allocator", 2100, 3},
		{"long tokens", 20_000, 0},
		{"tokens longer than a large object", 33_000, 0},
		{"tokens with many roles", 400, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			inner := &counting{say: func(raw string) (identity.Credential, error) {
				said := identity.Credential{Email: raw[:20] + "@example.com", ExpiresAt: start.Add(time.Hour)}
				for n := range c.roles {
					said.Roles = append(said.Roles, fmt.Sprintf("role-%d-%s", n, raw[:20]))
				}
				return said, nil
			}}
			before := heap()
			f := newCache(t, inner, bytes)
			for n := range 4 * bytes / (c.length + 40*c.roles + 250) {
				raw := fmt.Sprintf("%020d%s", n, strings.Repeat("x", c.length-20))
				if _, err := f.Verify(raw, start); err != nil {
					t.Fatal(err)
				}
			}
			grown := heap() - before
			counted := int64(f.metric(t, "bytes"))
			t.Logf("%v entries, %d bytes counted, %d grown", f.metric(t, "entries"), counted, grown)
			if counted > bytes {
				t.Errorf("%d bytes are used by our own count, and %d allowed", counted, bytes)
			}
			if f.metric(t, "evictions_total") == 0 {
				t.Error("nothing was evicted: the test does not fill the memory")
			}
			const beside = 256 << 10 // the registry, the test itself
			if grown > bytes+beside {
				t.Errorf("the heap grew by %d bytes", grown)
			}
			if grown < counted*3/4 {
				t.Errorf("the heap grew by %d bytes, and %d were counted", grown, counted)
			}
			runtime.KeepAlive(f)
		})
	}
}

func TestATokenThatIsTooBigIsVerifiedEachTime(t *testing.T) {
	inner := &counting{say: anHour}
	f := newCache(t, inner, 1<<20)
	for range 2 {
		if _, err := f.Verify(strings.Repeat("x", 128<<10), start); err != nil {
			t.Fatal(err)
		}
	}
	if inner.asked.Load() != 2 || f.metric(t, "entries") != 0 {
		t.Error("it was kept")
	}
}

func TestAnyNumberOfGoroutines(t *testing.T) {
	f := newCache(t, &counting{say: anHour}, 1<<20)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for n := range 2000 {
				raw := fmt.Sprintf("%c%0300d", 'a'+n%20, n*(g+1)%3000)
				if c, err := f.Verify(raw, start.Add(time.Duration(n%3)*time.Second)); err != nil || c.User[0] != raw[0] {
					t.Errorf("%c is %v, %v", raw[0], c.User, err)
				}
				if n%500 == 0 {
					f.Forget()
				}
			}
		})
	}
	all.Wait()
	if f.metric(t, "hits_total")+f.metric(t, "misses_total") != 8*2000 {
		t.Error("not every token was counted")
	}
}

func TestNewRefusesWhatCannotBeMeant(t *testing.T) {
	good := verified.Options{Verifier: &counting{say: anHour}, Registerer: prometheus.NewRegistry()}
	twice := good
	twice.Registerer = newCache(t, good.Verifier, 0).registry
	cases := map[string]verified.Options{
		"no verifier":              {Registerer: good.Registerer},
		"no registry":              {Verifier: good.Verifier},
		"a registry that is taken": twice,
		"too few bytes":            {Verifier: good.Verifier, Registerer: good.Registerer, Bytes: 1<<20 - 1},
		"a negative bound":         {Verifier: good.Verifier, Registerer: good.Registerer, Bytes: -1},
	}
	for name, o := range cases {
		if _, err := verified.New(o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAHitAllocatesNothing(t *testing.T) {
	f := newCache(t, &counting{say: anHour}, 0)
	raw := strings.Repeat("x", 400)
	f.accepts(t, raw, start)
	if got := testing.AllocsPerRun(1000, func() { _, _ = f.Verify(raw, start) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
