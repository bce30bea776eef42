package keyring_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/token"
)

// issuer publishes a key set as another issuer does.
type issuer struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int32
}

func newIssuer(t *testing.T, ids ...string) *issuer {
	t.Helper()
	i := &issuer{}
	i.publish(t, ids...)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		(*i.answer.Load())(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) says(h http.HandlerFunc) { i.answer.Store(&h) }

// publish says the public halves of new keys with these names.
func (i *issuer) publish(t *testing.T, ids ...string) {
	t.Helper()
	text := published(t, ids...)
	i.says(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
}

func published(t *testing.T, ids ...string) []byte {
	t.Helper()
	var set []byte
	for _, id := range ids {
		key, _ := newKey(t, id)
		var err error
		if set, err = token.AddJWK(set, key); err != nil {
			t.Fatal(err)
		}
	}
	if set == nil {
		return []byte(`{"keys":[]}`)
	}
	keys, err := token.Sources{Algorithm: "EdDSA", JWKSet: set}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	return keys.JWKS()
}

func (i *issuer) url(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse(i.URL + "/auth/v1/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (i *issuer) options(t *testing.T) keyring.Options {
	return keyring.Options{Sources: token.Sources{Secret: []byte(secret), Remote: true}, URL: i.url(t), Registerer: prometheus.NewRegistry()}
}

// kids are the names of the keys in force, but for the secret.
func kids(ring *keyring.Ring) string {
	var names []string
	for _, k := range ring.Keys().Keys() {
		if k.Origin() == token.OriginFetched {
			names = append(names, k.ID())
		}
	}
	return strings.Join(names, " ")
}

func settled(t *testing.T, ring *keyring.Ring) {
	t.Helper()
	select {
	case <-ring.Settled():
	case <-time.After(20 * time.Second):
		t.Fatal("the set was never fetched")
	}
}

func TestASetIsFetchedAtTheStartAndAgainByTheClock(t *testing.T) {
	i := newIssuer(t, "one")
	o := i.options(t)
	o.Timing = quick
	o.Timing.Refresh = 20 * time.Millisecond
	ring, said, _ := run(t, o)
	settled(t, ring)
	if got := kids(ring); got != "one" {
		t.Errorf("keys %q", got)
	}
	i.publish(t, "one", "two")
	eventually(t, "the new key is there", func() bool { return kids(ring) == "one two" })
	i.publish(t)
	eventually(t, "a set of no keys is a set", func() bool { return kids(ring) == "" })
	if said.lines("ERROR", "") != 0 {
		t.Error(said.text.String())
	}
}

func TestALastGoodSetStaysWhileTheEndpointDoesNotAnswerWithOne(t *testing.T) {
	for name, bad := range map[string]http.HandlerFunc{
		"an error":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no set":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"not found": http.NotFound,
		"an endless answer": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"keys":[],"x":%q}`, strings.Repeat("x", 1<<20))
		},
		"a hang-up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t, "one")
			o := i.options(t)
			o.Timing = quick
			o.Timing.Refresh = 5 * time.Millisecond
			registry := prometheus.NewRegistry()
			o.Registerer = registry
			ring, said, _ := run(t, o)
			settled(t, ring)
			i.says(bad)
			from := i.asked.Load()
			eventually(t, "it asked three times more", func() bool { return i.asked.Load() >= from+3 })
			if kids(ring) != "one" {
				t.Errorf("keys %q", kids(ring))
			}
			if n := said.lines("ERROR", "cannot be fetched"); n != 1 {
				t.Errorf("one outage was told %d times", n)
			}
			i.publish(t, "two")
			eventually(t, "it came back", func() bool { return kids(ring) == "two" })
			eventually(t, "which is told", func() bool { return said.lines("INFO", "fetched again") == 1 })
		})
	}
}

func TestARedirectStaysOnItsHost(t *testing.T) {
	elsewhere := newIssuer(t, "foreign")
	i := newIssuer(t, "one")
	there := published(t, "one")
	i.says(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/keys":
			_, _ = w.Write(there)
		default:
			http.Redirect(w, r, "/keys", http.StatusFound)
		}
	})
	o := i.options(t)
	o.Timing = quick
	o.Timing.Refresh = 5 * time.Millisecond
	ring, said, _ := run(t, o)
	settled(t, ring)
	if kids(ring) != "one" {
		t.Errorf("keys %q", kids(ring))
	}
	i.says(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/keys", http.StatusFound)
	})
	eventually(t, "the fault is told", func() bool { return said.lines("ERROR", "redirects to another host") == 1 })
	if kids(ring) != "one" || elsewhere.asked.Load() != 0 {
		t.Errorf("keys %q, the other host was asked %d times", kids(ring), elsewhere.asked.Load())
	}
	from := i.asked.Load()
	i.says(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/again"+r.URL.Path, http.StatusFound)
	})
	eventually(t, "it follows no loop for ever", func() bool { return i.asked.Load() >= from+8 })
	i.says(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(there) })
	eventually(t, "it came back", func() bool { return said.lines("INFO", "fetched again") == 1 })
}

func TestWhatIsNotPublicIsLeftOutAndTold(t *testing.T) {
	i := newIssuer(t)
	_, private := newKey(t, "leaked")
	i.says(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(private) })
	ring, said, _ := run(t, i.options(t))
	settled(t, ring)
	eventually(t, "the key is told of", func() bool { return said.lines("WARN", "is a secret") == 1 })
	if kids(ring) != "" {
		t.Errorf("keys %q", kids(ring))
	}
}

func TestAnUnknownKidCausesOneFetchWithinItsBudgetAndWaitsForIt(t *testing.T) {
	i := newIssuer(t, "one")
	o := i.options(t)
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	ring, _, _ := run(t, o)
	settled(t, ring)
	i.publish(t, "one", "two")
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { ring.Await("two") })
	}
	all.Wait()
	if kids(ring) != "one two" {
		t.Errorf("keys %q right after the wait", kids(ring))
	}
	// Fifty tokens with the key, then a thousand without: two fetches in all.
	for n := range 1000 {
		ring.Await(fmt.Sprint("nobody's ", n))
	}
	ring.Await(strings.Repeat("k", 60_000))
	if n := i.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want once at the start and once for the kids", n)
	}
	if n, err := testutil.GatherAndCount(registry, "gatehouse_jwks_unknown_kids_total"); err != nil || n != 4 {
		t.Errorf("%d series (%v): a label grows with the kids", n, err)
	}
}

func TestAKidThatAFetchDidNotBringCausesNoOther(t *testing.T) {
	i := newIssuer(t, "one")
	o := i.options(t)
	o.Timing = quick
	o.Timing.Budget = time.Nanosecond
	ring, _, _ := run(t, o)
	settled(t, ring)
	eventually(t, "the fetch of the start is over", func() bool {
		ring.Await("nobody's")
		return i.asked.Load() == 2
	})
	for range 100 {
		ring.Await("nobody's")
	}
	if n := i.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	ring.Await("somebody's")
	if n := i.asked.Load(); n != 3 {
		t.Errorf("asked %d times, want once more for another kid", n)
	}
}

func TestNobodyWaitsLongForAnEndpointThatHangs(t *testing.T) {
	i := newIssuer(t)
	release := make(chan struct{})
	i.says(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	o := i.options(t)
	o.Timing = quick
	o.Timing.Patience = 20 * time.Millisecond
	ring, _, _ := run(t, o)
	eventually(t, "it is asked", func() bool { return i.asked.Load() == 1 })
	done := make(chan struct{})
	go func() {
		defer close(done)
		ring.Await("any")
	}()
	select {
	case <-done:
	case <-time.After(4 * time.Second): // before the fetch itself gives up
		t.Error("a token waits for a fetch that hangs")
	}
	select {
	case <-ring.Settled():
		t.Error("a set that never came counts as fetched")
	default:
	}
}

func TestAFetchedKeyDoesNotTakeTheNameOfOneOfOurOwn(t *testing.T) {
	i := newIssuer(t, "one", "theirs")
	_, own := newKey(t, "one")
	o := i.options(t)
	o.Sources.JWKSet = own
	ring, said, _ := run(t, o)
	settled(t, ring)
	eventually(t, "it is told", func() bool { return said.lines("WARN", "kid of a key of our own") == 1 })
	if kids(ring) != "theirs" {
		t.Errorf("keys %q", kids(ring))
	}
}
