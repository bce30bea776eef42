package issuers_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/issuers"
	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

const (
	ownSecret   = "test-secret-made-of-obvious-words-for-gatehouse"
	firstSecret = "test-secret-of-the-first-of-the-other-issuers"
	laterSecret = "test-secret-that-comes-later-to-that-issuer"
)

var (
	now  = time.Unix(1_800_000_000, 0).UTC()
	user = identity.UserID{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}
)

// quick is for tests that wait for what happens, and never for time to pass.
var quick = keyring.Timing{Poll: 5 * time.Millisecond, Refresh: time.Hour, Retry: 5 * time.Millisecond, Budget: time.Hour, Patience: 10 * time.Second}

// folder writes files and returns its name.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, dir, name, text)
	}
	return dir
}

func put(t testing.TB, dir, name, text string) {
	t.Helper()
	whole := filepath.Join(dir, name)
	if err := os.WriteFile(whole+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole+".new", whole); err != nil {
		t.Fatal(err)
	}
}

func keysOf(t testing.TB, secret string) *token.KeySet {
	t.Helper()
	set, err := token.Sources{Algorithm: "HS256", Secret: []byte(secret)}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func own(t testing.TB) *token.Verifier {
	t.Helper()
	v, err := token.NewVerifier(token.Rules{Keys: keysOf(t, ownSecret)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// minted is a token of an issuer with these keys.
func minted(t testing.TB, keys *token.KeySet, iss string) string {
	t.Helper()
	i, err := token.NewIssuer(token.Rules{Keys: keys, Issuer: iss}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m, err := i.Issue(token.Grant{User: user}, now)
	if err != nil {
		t.Fatal(err)
	}
	return m.Token
}

type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// opened is a book that is looked after until the test ends.
type opened struct {
	*issuers.Book
	verifier *token.Verifier
	registry *prometheus.Registry
	log      *logged
	hangups  chan os.Signal
	forgot   atomic.Int64
}

func open(t *testing.T, dir string, o issuers.Options) *opened {
	t.Helper()
	b := &opened{verifier: own(t), registry: prometheus.NewRegistry(), log: &logged{}, hangups: make(chan os.Signal)}
	o.File, o.Verifier, o.Registerer, o.Logger = filepath.Join(dir, "issuers.yaml"), b.verifier, b.registry, slog.New(slog.NewTextHandler(b.log, nil))
	o.Timing = quick
	var err error
	if b.Book, err = issuers.Open(o); err != nil {
		t.Fatal(err)
	}
	b.OnChange(func() { b.forgot.Add(1) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx, b.hangups)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return b
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

const one = `issuers:
  - name: first
    issuer: https://first.example
    algorithms: [HS256]
    keys: { secret_file: first-secret }
    profile: native
`

func TestAFileIsReadStrictlyAndItsFaultsHaveALine(t *testing.T) {
	entry := func(lines ...string) string {
		return "issuers:\n  - name: first\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	const (
		iss    = "issuer: https://first.example"
		hs     = "algorithms: [HS256]"
		es     = "algorithms: [ES256]"
		shared = "keys: { secret_file: first-secret }"
		url    = "keys: { jwks_url: https://first.example/jwks }"
		native = "profile: native"
	)
	cases := []struct {
		name, file string
		want       string // "": nothing is wrong
	}{
		{"a good one", one, ""},
		{"JSON is YAML", `{"issuers":[{"name":"first","issuer":"x","algorithms":["HS256"],"keys":{"secret_file":"first-secret"},"profile":"native"}]}`, ""},
		{"all that there is", entry(iss, "algorithms: [RS256, ES256]", url, "claims: { user: sub, company: app_metadata.company_id, email: email, roles: app_metadata.roles }",
			"role: authenticated", "audience: gatehouse", "leeway: 30s", "until: 2031-06-01T00:00:00Z", "sessions: false", "user_check: off"), ""},
		{"nothing", "# nothing\n", "issuers.yaml: is empty"},
		{"no issuers", "{}\n", "issuers.yaml:1: issuers is missing"},
		{"an empty list", "issuers: []\n", "issuers.yaml:1: issuers: want 1 to 16"},
		{"no YAML", "issuers: [\n", "issuers.yaml: reading YAML"},
		{"two documents", one + "---\n" + one, "a second document"},
		{"an unknown key", one + "    insecure: true\n", `issuers.yaml:7: issuer "first": unknown key "insecure"`},
		{"a key in another case", "Issuers: []\n", `issuers.yaml:1: unknown key "Issuers"`},
		{"a key twice", one + "    profile: native\n", "issuers.yaml:7: issuer \"first\": key profile is given twice, first in line 6"},
		{"a secret in the file itself", entry(iss, hs, "keys: { secret: "+firstSecret+" }", native), "keys stand in files of their own"},
		{"two kinds of keys", entry(iss, hs, "keys: { secret_file: first-secret, jwks_url: https://x.example/jwks }", native), "issuers.yaml:5: issuer \"first\": keys: want exactly one"},
		{"no keys", entry(iss, hs, native), `issuers.yaml:2: issuer "first": keys is missing`},
		{"no algorithms", entry(iss, shared, native), "algorithms is missing"},
		{"something in the place of an algorithm", entry(iss, "algorithms: [test-secret-in-the-wrong-place]", shared, native), `issuers.yaml:4: issuer "first": algorithms: unknown algorithm ""`},
		{"an unknown algorithm", entry(iss, "algorithms: [none]", shared, native), `issuers.yaml:4: issuer "first": algorithms: unknown algorithm "none"`},
		{"an algorithm of other keys", entry(iss, es, shared, native), "ES256 does not use a shared secret"},
		{"a shared secret that is published", entry(iss, hs, url, native), "HS256 uses a shared secret"},
		{"two algorithms for one secret", entry(iss, "algorithms: [HS256, HS512]", shared, native), "one key has one algorithm"},
		{"neither profile nor claims", entry(iss, hs, shared), "profile or claims is missing"},
		{"both", entry(iss, hs, shared, native, "audience: x", "claims: { user: sub }"), "stands together with profile"},
		{"claims without an audience", entry(iss, hs, shared, "claims: { user: sub }"), "audience is missing"},
		{"user_metadata", entry(iss, hs, shared, "audience: x", "claims: { user: sub, company: user_metadata.company_id }"), `issuers.yaml:7: issuer "first": claims.company: user_metadata is the user's own to write`},
		{"a role with supabase", entry(iss, hs, shared, "profile: supabase", "role: anon"), "says itself"},
		{"an unknown profile", entry(iss, hs, shared, "profile: auth0"), "profile: want native or supabase"},
		{"a name that is ours", strings.Replace(one, "name: first", "name: own", 1), "is what our own issuer is called"},
		{"a name that is no label", strings.Replace(one, "name: first", "name: First Issuer", 1), "issuers.yaml:2: issuer: name: want"},
		{"a name twice", one + strings.TrimPrefix(strings.Replace(strings.Replace(one, "first.example", "x.example", 1), "first-secret", "later-secret", 1), "issuers:\n"), `issuers.yaml:7: issuer "first": the name is that of another issuer`},
		{"a secret twice", one + strings.TrimPrefix(strings.NewReplacer("first.example", "x.example", "name: first", "name: x").Replace(one), "issuers:\n"), `issuer "x": has a key of first`},
		{"our own secret", strings.Replace(one, "first-secret", "own-secret", 1), "has a key that is our own"},
		{"no iss where our own have none", strings.Replace(one, "    issuer: https://first.example\n", "", 1), "tokens without iss are our own"},
		{"a file that is not there", strings.Replace(one, "first-secret", "nowhere", 1), "keys: the file cannot be read: no such file or directory"},
		{"a short secret", strings.Replace(one, "first-secret", "short-secret", 1), "fewer than 32 bytes"},
		{"a public key as a secret", strings.Replace(one, "first-secret", "public.pem", 1), "this is a PEM key, and no shared secret"},
		{"a directory", strings.Replace(one, "first-secret", ".", 1), "not a regular file"},
		{"a key of another kind", entry(iss, es, "keys: { public_key_file: first-secret }", native), "keys: no PEM block found"},
		{"a set that is none", entry(iss, es, "keys: { jwks_file: first-secret }", native), "keys: not strict JSON"},
		{"a set with a private key", entry(iss, "algorithms: [EdDSA]", "keys: { jwks_file: private.json }", native), "is a private key, which is its issuer's alone"},
		{"a set for another algorithm", entry(iss, es, "keys: { jwks_file: public.json }", native), "is for an algorithm that is not among those of the issuer"},
		{"a set", entry(iss, "algorithms: [EdDSA]", "keys: { jwks_file: public.json }", native), ""},
		{"a wire that anyone may write to", entry(iss, es, "keys: { jwks_url: http://first.example/jwks }", native), "jwks_url is not https"},
		{"a password in a URL", entry(iss, es, "keys: { jwks_url: https://a:b@first.example/jwks }", native), "has a user or a password in it"},
		{"no URL", entry(iss, es, "keys: { jwks_url: first.example }", native), "jwks_url is no https URL"},
		{"one URL twice", entry(iss, es, url, native) + strings.TrimPrefix(strings.Replace(entry("issuer: y", es, url, native), "name: first", "name: y", 1), "issuers:\n"), `issuer "y": keys: those of first are fetched from the same jwks_url`},
		{"a leeway without a unit", entry(iss, hs, shared, native, "leeway: 30"), "leeway: want 0s to 1h"},
		{"a time that is none", entry(iss, hs, shared, native, "until: tomorrow"), "until: want an RFC 3339 time"},
		{"a date", entry(iss, hs, shared, native, "until: 2031-06-01"), "until: want an RFC 3339 time"},
		{"users of ours that are not looked up", entry(iss, hs, shared, native, "user_check: off"), "user_check: off is not for the profile native"},
		{"sessions of users that are not looked up", entry(iss, hs, shared, "profile: supabase", "user_check: off", "sessions: true"), "sessions: sessions of ours"},
		{"a word for a truth", entry(iss, hs, shared, native, "sessions: yes"), "sessions: want true or false"},
	}
	key, _, err := token.GenerateJWK("EdDSA", "k")
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.AddJWK(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.Sources{Algorithm: "HS256", JWKSet: set}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, map[string]string{
				"issuers.yaml": c.file, "first-secret": firstSecret + "\n", "later-secret": laterSecret, "own-secret": ownSecret + "\r\n",
				"short-secret": "test-secret-too-short", "public.pem": "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZI\n-----END PUBLIC KEY-----\n",
				"private.json": string(set), "public.json": string(keys.JWKS()),
			})
			err := issuers.Check(issuers.Options{File: filepath.Join(dir, "issuers.yaml"), Verifier: own(t)})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant %q", err, c.want)
			}
			faults, _ := errors.AsType[issuers.Faults](err)
			if err != nil && len(faults) == 0 {
				t.Errorf("%T is no list of faults", err)
			}
			if strings.Contains(fmt.Sprint(err), firstSecret) || strings.Contains(fmt.Sprint(err), dir) {
				t.Errorf("it says too much: %v", err)
			}
		})
	}
}

func TestAChangeOfAFileOfKeysIsTakenUpAndABadOneIsNot(t *testing.T) {
	dir := folder(t, map[string]string{"issuers.yaml": one, "first-secret": firstSecret})
	b := open(t, dir, issuers.Options{})
	old, later := minted(t, keysOf(t, firstSecret), "https://first.example"), minted(t, keysOf(t, laterSecret), "https://first.example")
	accepted := func(raw string) func() bool {
		return func() bool { _, err := b.verifier.Verify(raw, now); return err == nil }
	}
	reloads := func(result string) float64 {
		return counted(t, b.registry, "gatehouse_issuers_reloads_total", "result", result)
	}
	if !accepted(old)() || accepted(later)() {
		t.Fatal("the file is not in force")
	}

	put(t, dir, "first-secret", "short")
	eventually(t, "a bad file is told", func() bool { return reloads("refused") == 1 })
	if !accepted(old)() {
		t.Error("a bad file is in force")
	}
	b.hangups <- syscall.SIGHUP
	eventually(t, "it is told again to whoever asks", func() bool { return reloads("refused") == 2 })

	put(t, dir, "first-secret", laterSecret)
	eventually(t, "the new secret is in force", accepted(later))
	if accepted(old)() {
		t.Error("so is the old one")
	}
	eventually(t, "it is counted", func() bool { return reloads("ok") == 1 })
	if b.forgot.Load() == 0 {
		t.Error("those who remember were not told")
	}
	put(t, dir, "issuers.yaml", strings.Replace(one, "https://first.example", "https://other.example", 1))
	eventually(t, "another iss is in force", func() bool { return !accepted(later)() })
	if text := b.log.String(); strings.Count(text, "level=ERROR") != 2 || strings.Contains(text, laterSecret) {
		t.Error(text)
	}
}

// counted is a value of a metric, by one of its labels.
func counted(t *testing.T, from prometheus.Gatherer, name, label, value string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

// publisher publishes the set of one key.
type publisher struct {
	*httptest.Server
	signer *token.KeySet
	asked  atomic.Int64
	down   atomic.Bool
}

func newPublisher(t *testing.T, kid string) *publisher {
	t.Helper()
	key, _, err := token.GenerateJWK("EdDSA", kid)
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.AddJWK(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	p := &publisher{}
	if p.signer, err = (token.Sources{Algorithm: "EdDSA", JWKSet: set}).KeySet(); err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		if p.down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(p.signer.JWKS())
	}))
	t.Cleanup(p.Close)
	return p
}

func fetching(name, iss, url string) string {
	return fmt.Sprintf("  - { name: %s, issuer: %q, algorithms: [EdDSA], keys: { jwks_url: %s }, profile: native }\n", name, iss, url)
}

func settled(t *testing.T, b *opened) {
	t.Helper()
	for _, s := range b.Settled() {
		select {
		case <-s:
		case <-time.After(20 * time.Second):
			t.Fatal("a set was never fetched")
		}
	}
}

func TestEveryIssuerThatPublishesItsKeysIsAskedForThemByItself(t *testing.T) {
	x, y := newPublisher(t, "k"), newPublisher(t, "k") // one kid, two keys
	dir := folder(t, map[string]string{"issuers.yaml": "issuers:\n" + fetching("x", "x", x.URL) + fetching("y", "y", y.URL)})
	b := open(t, dir, issuers.Options{})
	settled(t, b)
	for _, c := range []struct {
		by   *publisher
		iss  string
		want error
	}{
		{x, "x", nil}, {y, "y", nil}, {x, "y", problem.TokenSignature}, {y, "x", problem.TokenSignature}, {x, "", problem.TokenMalformed},
	} {
		if _, err := b.verifier.Verify(minted(t, c.by.signer, c.iss), now); !errors.Is(err, c.want) {
			t.Errorf("iss %q: %v, want %v", c.iss, err, c.want)
		}
	}
	stranger := newPublisher(t, "nobody")
	before := y.asked.Load()
	if _, err := b.verifier.Verify(minted(t, stranger.signer, "x"), now); !errors.Is(err, problem.TokenSignature) {
		t.Errorf("an unknown kid: %v", err)
	}
	if x.asked.Load() != 2 || y.asked.Load() != before {
		t.Errorf("an unknown kid of x had x asked %d times, and y %d", x.asked.Load(), y.asked.Load()-before)
	}
	if got := counted(t, b.registry, "gatehouse_issuer_jwks_unknown_kids_total", "issuer", "x"); got != 1 {
		t.Errorf("%v unknown kids of x were counted", got)
	}

	// What concerns x does not lose the keys of y, who is away.
	y.down.Store(true)
	put(t, dir, "issuers.yaml", "issuers:\n"+fetching("y", "y", y.URL))
	eventually(t, "x is trusted no more", func() bool {
		_, err := b.verifier.Verify(minted(t, x.signer, "x"), now)
		return err != nil
	})
	if _, err := b.verifier.Verify(minted(t, y.signer, "y"), now); err != nil {
		t.Errorf("y: %v", err)
	}
	if got, err := testutil.GatherAndCount(b.registry, "gatehouse_issuer_jwks_keys"); err != nil || got != 1 {
		t.Errorf("%d issuers have metrics, %v", got, err)
	}
	put(t, dir, "issuers.yaml", "issuers:\n"+fetching("y", "y", y.URL)+fetching("x", "x", x.URL))
	eventually(t, "x is trusted again", func() bool {
		_, err := b.verifier.Verify(minted(t, x.signer, "x"), now)
		return err == nil
	})
}

func TestATokenWhoseKeysCouldNeverBeFetchedIsNotRefused(t *testing.T) {
	x := newPublisher(t, "k")
	x.down.Store(true)
	dir := folder(t, map[string]string{"issuers.yaml": "issuers:\n" + fetching("x", "x", x.URL)})
	b := open(t, dir, issuers.Options{})
	if _, err := b.verifier.Verify(minted(t, x.signer, "x"), now); !errors.Is(err, problem.Unavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := b.verifier.Verify(minted(t, keysOf(t, ownSecret), ""), now); err != nil {
		t.Errorf("our own: %v", err)
	}
	x.down.Store(false)
	settled(t, b)
	if _, err := b.verifier.Verify(minted(t, x.signer, "x"), now); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestAFetchedKeyThatIsAnothersIsLeftOut(t *testing.T) {
	x, y := newPublisher(t, "k"), newPublisher(t, "k")
	y.signer = x.signer // y publishes what is x's
	dir := folder(t, map[string]string{"issuers.yaml": "issuers:\n" + fetching("x", "x", x.URL) + fetching("y", "y", y.URL)})
	b := open(t, dir, issuers.Options{})
	settled(t, b)
	if _, err := b.verifier.Verify(minted(t, x.signer, "x"), now); err != nil {
		t.Errorf("x: %v", err)
	}
	if _, err := b.verifier.Verify(minted(t, x.signer, "y"), now); !errors.Is(err, problem.TokenSignature) {
		t.Errorf("a token of x with the iss of y: %v", err)
	}
	if !strings.Contains(b.log.String(), "another's too") {
		t.Error(b.log.String())
	}
}

func TestTokensAreCountedByIssuer(t *testing.T) {
	dir := folder(t, map[string]string{"issuers.yaml": one, "first-secret": firstSecret})
	var first atomic.Int64
	b := open(t, dir, issuers.Options{Counter: func(issuer string) func(token.Key) func() {
		return func(k token.Key) func() {
			if issuer != "first" || k.Origin() != token.OriginSecret {
				t.Errorf("a key of %s from %s", issuer, k.Origin())
			}
			return func() { first.Add(1) }
		}
	}})
	for _, raw := range []string{
		minted(t, keysOf(t, firstSecret), "https://first.example"),
		minted(t, keysOf(t, firstSecret), "https://first.example") + "x",
		minted(t, keysOf(t, ownSecret), ""),
	} {
		_, _ = b.verifier.Verify(raw, now)
	}
	if got := first.Load(); got != 1 {
		t.Errorf("%d were counted, want 1", got)
	}
}

// Property: whatever stands in a file, it is read or refused with faults, and nothing
// that stands in it as a secret is repeated.
func FuzzAFileIsReadOrRefusedWithFaults(f *testing.F) {
	f.Add([]byte(one))
	f.Add([]byte("issuers:\n- &a {name: a}\n- *a\n"))
	f.Add([]byte("issuers: {<<: [1], keys: ~}"))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(one))))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := folder(t, map[string]string{"issuers.yaml": string(text), "first-secret": firstSecret})
		v := own(t)
		err := issuers.Check(issuers.Options{File: filepath.Join(dir, "issuers.yaml"), Verifier: v})
		if faults, ok := errors.AsType[issuers.Faults](err); err != nil && (!ok || len(faults) == 0 || strings.Contains(err.Error(), firstSecret)) {
			t.Fatalf("%T %v", err, err)
		}
		if len(v.Trusts()) != 0 {
			t.Fatal("a check has trusted somebody")
		}
	})
}
