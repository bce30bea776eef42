package keyring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/token"
)

const secret = "test-secret-made-of-obvious-words-for-gatehouse"

// quick is for tests that wait for what happens, and never for time to pass.
var quick = keyring.Timing{Poll: 5 * time.Millisecond, Refresh: time.Hour, Retry: 5 * time.Millisecond, Budget: time.Hour, Patience: 10 * time.Second}

// newKey is a private JWK, and the set of it alone.
func newKey(t testing.TB, id string) (key, set []byte) {
	t.Helper()
	key, _, err := token.GenerateJWK("EdDSA", id)
	if err != nil {
		t.Fatal(err)
	}
	set, err = token.AddJWK(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, set
}

// logged is what a ring said.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) lines(level, part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, "level="+level) && strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// run makes a ring and looks after it until the test ends.
func run(t *testing.T, o keyring.Options) (*keyring.Ring, *logged, chan os.Signal) {
	t.Helper()
	ring, said := newRing(t, o)
	hangups := make(chan os.Signal)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ring.Run(ctx, hangups)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return ring, said, hangups
}

func newRing(t *testing.T, o keyring.Options) (*keyring.Ring, *logged) {
	t.Helper()
	said := &logged{}
	o.Logger = slog.New(slog.NewTextHandler(said, nil))
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Timing == (keyring.Timing{}) {
		o.Timing = quick
	}
	if o.Sources.Algorithm == "" {
		o.Sources.Algorithm = "HS256"
	}
	ring, err := keyring.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return ring, said
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func signingKey(ring *keyring.Ring) string {
	k, _ := ring.Keys().Signer()
	return k.ID()
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAChangedFileIsTakenAndABadOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	_, one := newKey(t, "one")
	_, two := newKey(t, "two")
	write(t, path, one)
	registry := prometheus.NewRegistry()
	ring, said, _ := run(t, keyring.Options{Sources: token.Sources{JWKSet: one}, File: path, Signing: true, Registerer: registry})

	write(t, path, two)
	eventually(t, "the new key signs", func() bool { return signingKey(ring) == "two" })

	var public map[string][]map[string]any
	if err := json.Unmarshal(two, &public); err != nil {
		t.Fatal(err)
	}
	delete(public["keys"][0], "key_ops")
	noSigner, err := json.Marshal(public)
	if err != nil {
		t.Fatal(err)
	}
	const complaint = "cannot be used"
	for i, bad := range []string{"", "{", `{"keys":[]}`, strings.Repeat(" ", 70_000), string(noSigner)} {
		write(t, path, []byte(bad))
		eventually(t, "the fault is told", func() bool { return said.lines("ERROR", complaint) == i+1 })
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing file is told", func() bool { return said.lines("ERROR", complaint) == 6 })
	if signingKey(ring) != "two" {
		t.Error("a bad set was put in force")
	}
	write(t, path, one)
	eventually(t, "a good one is taken again", func() bool { return signingKey(ring) == "one" })
	if n := said.lines("ERROR", complaint); n != 6 {
		t.Errorf("six faults were told %d times", n)
	}
	want := `
# HELP gatehouse_key_set_reloads_total Changes of the key set in its file, by result (ok, refused).
# TYPE gatehouse_key_set_reloads_total counter
gatehouse_key_set_reloads_total{result="ok"} 2
gatehouse_key_set_reloads_total{result="refused"} 6
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if text := said.text.String(); strings.Contains(text, path) {
		t.Error("the log tells where the keys are")
	}
}

// Kubernetes changes a secret by putting another directory behind a link.
func TestAFileBehindLinksIsFollowed(t *testing.T) {
	dir := t.TempDir()
	_, one := newKey(t, "one")
	_, two := newKey(t, "two")
	for name, set := range map[string][]byte{"v1": one, "v2": two} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "keys.json"), set)
	}
	link := func(target string) {
		if err := errors.Join(os.Symlink(target, filepath.Join(dir, "next")), os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	link("v1")
	path := filepath.Join(dir, "keys.json")
	if err := os.Symlink(filepath.Join("..data", "keys.json"), path); err != nil {
		t.Fatal(err)
	}
	ring, _, _ := run(t, keyring.Options{Sources: token.Sources{JWKSet: one}, File: path})
	link("v2")
	eventually(t, "the other set is in force", func() bool { return ring.Keys().Describe()[0].ID == "two" })
}

func TestAHangupLooksAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	_, one := newKey(t, "one")
	_, two := newKey(t, "two")
	write(t, path, one)
	slow := quick
	slow.Poll = time.Hour
	ring, said, hangups := run(t, keyring.Options{Sources: token.Sources{JWKSet: one}, File: path, Signing: true, Timing: slow})
	write(t, path, two)
	hangups <- syscall.SIGHUP
	eventually(t, "the new key signs", func() bool { return signingKey(ring) == "two" })
	write(t, path, []byte("{"))
	hangups <- syscall.SIGHUP
	eventually(t, "the fault is told at first sight", func() bool { return said.lines("ERROR", "cannot be used") == 1 })
}

func TestHooksFollowOneAnotherAndSeeTheSetThatIsInForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	_, one := newKey(t, "one")
	_, two := newKey(t, "two")
	write(t, path, one)
	ring, _ := newRing(t, keyring.Options{Sources: token.Sources{JWKSet: one}, File: path, Signing: true})
	var order []string
	done := make(chan struct{})
	ring.OnChange(func(set *token.KeySet) {
		k, _ := set.Signer()
		order = append(order, "swap "+k.ID()+" "+signingKey(ring))
	})
	ring.OnChange(func(*token.KeySet) {
		order = append(order, "forget")
		close(done)
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go ring.Run(ctx, nil)
	write(t, path, two)
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told")
	}
	if got := strings.Join(order, ", "); got != "swap two two, forget" {
		t.Error(got)
	}
}

func TestWhoOnlyVerifiesHoldsNothingThatSigns(t *testing.T) {
	_, one := newKey(t, "one")
	ring, _ := newRing(t, keyring.Options{Sources: token.Sources{JWKSet: one, Secret: []byte(secret)}})
	for _, k := range ring.Keys().Keys() {
		if k.CanSign() {
			t.Errorf("%s can sign", k.ID())
		}
	}
	if _, err := keyring.New(keyring.Options{
		Sources: token.Sources{Algorithm: "HS256", JWKSet: []byte(strings.Replace(string(one), `"sign"`, `"verify"`, 1)), Secret: []byte(secret)},
		Signing: true, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}); !errors.Is(err, token.ErrNoSigner) {
		t.Errorf("got %v", err)
	}
}
