package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// startWithKeys runs a gate whose keys are in a set that the operator's command
// made, and returns the set's file.
func startWithKeys(t *testing.T, settings map[string]string) (*stack, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	all := map[string]string{"GATEWAY_JWT_SECRET": "", "GATEWAY_JWT_KEYS_FILE": path}
	for name, value := range settings {
		all[name] = value
	}
	s := newStack(t, postgrestest.New(t), all)
	s.command("key", "generate", "--set", "--alg", "ES256", "--kid", "first", "--out", path)
	s.run()
	return s, path
}

// metric is the value of one series of a service, as its text has it; empty: it
// has none.
func metric(t testing.TB, ops, series string) string {
	t.Helper()
	r, err := http.Get(ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// reloaded waits until both services have taken so many sets.
func (s *stack) reloaded(times int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("both services have read %d sets", times), func() error {
		for name, ops := range map[string]string{"authz": s.authzOps, "login": s.loginOps} {
			if got := metric(s.t, ops, `gatehouse_key_set_reloads_total{result="ok"}`); got != fmt.Sprint(times) {
				return fmt.Errorf("%s has taken %s", name, got)
			}
		}
		return nil
	})
}

// load sends good tokens for as long as it runs: those that it was given, and new
// ones that login keeps making of them.
type load struct {
	s       *stack
	stop    chan struct{}
	running sync.WaitGroup
	asked   atomic.Int64

	mu      sync.Mutex
	tokens  []string
	refused []string
}

func (s *stack) startLoad(tokens ...string) *load {
	l := &load{s: s, stop: make(chan struct{}), tokens: tokens}
	for worker := range 4 {
		l.running.Go(func() {
			for n := worker; ; n++ {
				select {
				case <-l.stop:
					return
				default:
					l.ask(n)
				}
			}
		})
	}
	return l
}

func (l *load) ask(n int) {
	l.mu.Lock()
	raw := l.tokens[n%len(l.tokens)]
	l.mu.Unlock()
	l.asked.Add(1)
	if n%3 > 0 {
		l.note(raw, l.s.get(strictRoute, bearer(raw)))
		return
	}
	a := l.s.postJSON(initialRoute, bearer(raw), "")
	l.note(raw, a)
	var made struct {
		Token string `json:"new_access_token"`
	}
	if json.Unmarshal([]byte(a.body), &made) == nil && made.Token != "" {
		l.mu.Lock()
		// The oldest stay: they are the ones that a rotation could hurt.
		if len(l.tokens) < 40 {
			l.tokens = append(l.tokens, made.Token)
		} else {
			l.tokens[len(l.tokens)/2+n%(len(l.tokens)/2)] = made.Token
		}
		l.mu.Unlock()
	}
}

func (l *load) note(raw string, a answer) {
	if err := a.is(http.StatusOK); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refused = append(l.refused, fmt.Sprintf("signed with %s: %v", kidOf(raw), err))
	}
}

// forget drops the tokens of a key.
func (l *load) forget(kid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.tokens[:0:0]
	for _, raw := range l.tokens {
		if kidOf(raw) != kid {
			kept = append(kept, raw)
		}
	}
	l.tokens = kept
}

// more waits until so many more requests were sent.
func (l *load) more(n int64) {
	l.s.t.Helper()
	want := l.asked.Load() + n
	eventually(l.s.t, "the load goes on", func() error {
		if got := l.asked.Load(); got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.running.Wait()
	if len(l.refused) > 0 {
		t.Errorf("%d of %d good tokens were refused, the first of them: %s", len(l.refused), l.asked.Load(), l.refused[0])
	}
}

func kidOf(raw string) string {
	head, _, _ := strings.Cut(raw, ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	var h struct{ Kid string }
	_ = json.Unmarshal(text, &h)
	return h.Kid
}

func TestARotationUnderLoadRefusesNoGoodToken(t *testing.T) {
	t.Parallel()
	s, path := startWithKeys(t, nil)
	u := s.withPassword(s.newMember())
	old := s.logIn(u)
	if kidOf(old) != "first" {
		t.Fatalf("signed with %q", kidOf(old))
	}
	l := s.startLoad(old)

	s.command("key", "rotate", "add", "--file", path, "--alg", "ES256", "--kid", "second", "--apply")
	s.reloaded(1)
	l.more(100)
	s.command("key", "rotate", "promote", "second", "--file", path, "--apply")
	s.reloaded(2)
	l.more(100)
	fresh := s.logIn(u)
	if kidOf(fresh) != "second" {
		t.Errorf("after the promotion a login is signed with %q", kidOf(fresh))
	}
	if log := s.command("audit", "--event", "key.", "--output", "json"); strings.Count(log, `"key.rotated"`) != 1 || !strings.Contains(log, `"second"`) {
		t.Errorf("the audit log tells of %s", log)
	}
	s.in(t).get(strictRoute, bearer(old)).expect(t, accepted)
	for _, key := range []string{"first", "second"} {
		if got := metric(t, s.authzOps, `gatehouse_authz_tokens_verified_total{alg="ES256",key="`+key+`"}`); got == "" || got == "0" {
			t.Errorf("authz has verified %q tokens of the key %s", got, key)
		}
	}
	// The old tokens are over, as after their life.
	l.forget("first")
	l.more(100)
	s.command("key", "rotate", "remove", "first", "--file", path, "--apply")
	s.reloaded(3)
	l.more(100)
	l.end(t)
	s.decide(t, old, wrongSignature)
	s.decide(t, fresh, accepted)
	// A key that was taken away at once, as after a leak, is the same.
	s.postJSON(initialRoute, bearer(old), "").expect(t, wrongSignature)
}

func TestABadKeySetChangesNothing(t *testing.T) {
	t.Parallel()
	s, path := startWithKeys(t, nil)
	raw := s.logIn(s.withPassword(s.newMember()))
	const marker = "dGVzdC1rZXktbWF0ZXJpYWw"
	if err := os.WriteFile(path, []byte(`{"keys":[{"kty":"oct","alg":"HS256","k":"`+marker+`","kid":"`+marker+`"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*devstack.Process{s.authzProcess, s.loginProcess} {
		if err := p.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	for name, out := range map[string]*record{"authz": s.authzLog, "login": s.loginLog} {
		eventually(t, name+" tells of it", func() error {
			if text := out.tail(1 << 20); !strings.Contains(text, "keys[0]: k is shorter than the 32 bytes") {
				return errors.New("not yet")
			} else if strings.Contains(text, marker) {
				t.Fatalf("%s logs key material", name)
			}
			return nil
		})
	}
	if got := metric(t, s.authzOps, `gatehouse_key_set_reloads_total{result="refused"}`); got == "0" || got == "" {
		t.Errorf("refused sets: %q", got)
	}
	s.decide(t, raw, accepted)
}

// jwks.json is read here by hand, as RFC 7517 and RFC 7518 have it, and its key
// verifies what login signed.
func TestTheKeysArePublishedThroughTheGate(t *testing.T) {
	t.Parallel()
	s, path := startWithKeys(t, nil)
	s.command("key", "rotate", "add", "--file", path, "--kid", "next", "--apply")
	s.reloaded(1)
	a := s.get("/.well-known/jwks.json", nil)
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	if got := a.header.Values("Cache-Control"); len(got) != 1 || got[0] != "public, max-age=300" {
		t.Errorf("Cache-Control = %q", got)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal([]byte(a.body), &set); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if len(set.Keys) != 2 || set.Keys[0]["kid"] != "first" || set.Keys[1]["kid"] != "next" || set.Keys[1]["alg"] != "EdDSA" {
		t.Fatalf("keys: %s", a.body)
	}
	for _, k := range set.Keys {
		for _, secret := range []string{"d", "k", "p", "q"} {
			if k[secret] != "" {
				t.Errorf("the key %s is published with its %s", k["kid"], secret)
			}
		}
	}
	number := func(name string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(set.Keys[0][name])
		if err != nil || len(b) != 32 {
			t.Fatalf("%s: %v, %d bytes", name, err, len(b))
		}
		return new(big.Int).SetBytes(b)
	}
	key := &ecdsa.PublicKey{Curve: elliptic.P256(), X: number("x"), Y: number("y")} //nolint:staticcheck // by hand
	raw := s.logIn(s.withPassword(s.newMember()))
	at := strings.LastIndexByte(raw, '.')
	signature, err := base64.RawURLEncoding.DecodeString(raw[at+1:])
	if err != nil || len(signature) != 64 {
		t.Fatalf("signature: %v, %d bytes", err, len(signature))
	}
	digest := sha256.Sum256([]byte(raw[:at]))
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the published key does not verify a token of login")
	}
	s.do(http.MethodPost, "/.well-known/jwks.json", nil, "").want(t, http.StatusMethodNotAllowed, "Method Not Allowed")
}

// otherIssuer publishes keys as Supabase does.
type otherIssuer struct {
	url   string
	asked atomic.Int64
	set   atomic.Pointer[string] // nil: out of order
}

func newOtherIssuer(t *testing.T) *otherIssuer {
	t.Helper()
	i := &otherIssuer{}
	server := &http.Server{Addr: freeAddress(t), ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		if set := i.set.Load(); set != nil {
			_, _ = io.WriteString(w, *set)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})}
	i.url = "http://" + server.Addr + "/auth/v1/.well-known/jwks.json"
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ListenAndServe()
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return i
}

func (i *otherIssuer) publish(keys ...string) {
	set := `{"keys":[` + strings.Join(keys, ",") + `]}`
	i.set.Store(&set)
}

// publicJWK is the public half of a key on P-256.
func publicJWK(t *testing.T, k *ecdsa.PrivateKey, kid string) string {
	t.Helper()
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return marshal(t, map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "key_ops": []string{"verify"}, "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])})
}

// Supabase's move from HS256 to ES256: both ages of tokens side by side, each
// with its algorithm, and an issuer that is out of order.
func TestTokensOfAnotherIssuersKeySetStandBesideTheSecret(t *testing.T) {
	t.Parallel()
	current, next, stranger := ecKey(t), ecKey(t), ecKey(t)
	i := newOtherIssuer(t)
	s := newStack(t, postgrestest.New(t), map[string]string{
		"GATEWAY_TOKEN_PROFILE": "supabase",
		"GATEWAY_USER_CHECK":    "off",
		"GATEWAY_JWT_JWKS_URL":  i.url,
	})
	s.run()
	c := supabaseClaims(s.newUUID(), s.newUUID())
	es256 := func(k *ecdsa.PrivateKey, kid string) string {
		return signWith(t, k, map[string]any{"alg": "ES256", "kid": kid, "typ": "JWT"}, c)
	}
	// Never fetched: nobody knows about ES256, and the secret is as good as ever.
	unknown := refusal{status: http.StatusServiceUnavailable, detail: "Authorization is temporarily unavailable."}
	a := s.get(strictRoute, bearer(es256(current, "current")))
	a.want(t, unknown.status, unknown.detail)
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After = %q", a.header.Get("Retry-After"))
	}
	s.decide(t, token(t, c), accepted)

	i.publish(publicJWK(t, current, "current"), `{"kty":"oct","alg":"HS256","kid":"leaked","k":"`+base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("t", 32)))+`"}`)
	eventually(t, "the set was fetched", func() error { return s.get(strictRoute, bearer(es256(current, "current"))).is(http.StatusOK) })
	for _, test := range []struct {
		name, token string
		want        refusal
	}{
		{"the fetched key", es256(current, "current"), accepted},
		{"the secret", token(t, c), accepted},
		{"the secret with a name of the issuer's", sign(t, map[string]any{"alg": "HS256", "kid": "b5f1"}, c, secret), accepted},
		{"the secret under the fetched key's name", sign(t, map[string]any{"alg": "HS256", "kid": "current"}, c, secret), wrongSignature},
		{"another key under that name", es256(stranger, "current"), wrongSignature},
		{"the fetched key without its name", signWith(t, current, map[string]any{"alg": "ES256"}, c), wrongSignature},
		{"a secret that was published", sign(t, map[string]any{"alg": "HS256", "kid": "leaked"}, c, strings.Repeat("t", 32)), wrongSignature},
		{"an unknown key", es256(stranger, "unknown"), wrongSignature},
	} {
		t.Run(test.name, func(t *testing.T) { s.decide(t, test.token, test.want) })
	}

	// A flood of names that nobody has causes next to no fetches.
	before := i.asked.Load()
	began := time.Now()
	for n := range 300 {
		if err := s.get(strictRoute, bearer(es256(stranger, fmt.Sprint("flood-", n)))).is(http.StatusUnauthorized); err != nil {
			t.Fatal(err)
		}
	}
	budget := int64(time.Since(began)/(10*time.Second)) + 1
	if asked := i.asked.Load() - before; asked > budget {
		t.Errorf("300 unknown kids caused %d fetches, want %d at most", asked, budget)
	}

	// The issuer rotates without a word, and goes down afterwards.
	i.publish(publicJWK(t, current, "current"), publicJWK(t, next, "next"))
	within(t, 30*time.Second, "the new key is asked for", func() error { return s.get(strictRoute, bearer(es256(next, "next"))).is(http.StatusOK) })
	i.set.Store(nil)
	if err := s.authzProcess.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the outage is noticed", func() error {
		if got := metric(t, s.authzOps, `gatehouse_jwks_refreshes_total{result="error"}`); got == "" || got == "0" {
			return errors.New("no failed fetch")
		}
		return nil
	})
	s.decide(t, es256(next, "next"), accepted)
	for series, want := range map[string]bool{
		`gatehouse_authz_tokens_verified_total{alg="ES256",key="next"}`:   true,
		`gatehouse_authz_tokens_verified_total{alg="HS256",key="secret"}`: true,
		`gatehouse_jwks_keys`:                                   true,
		`gatehouse_jwks_age_seconds`:                            true,
		`gatehouse_jwks_unknown_kids_total{result="throttled"}`: true,
	} {
		if got := metric(t, s.authzOps, series); (got != "" && got != "0") != want {
			t.Errorf("%s = %q", series, got)
		}
	}
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
