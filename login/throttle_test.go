package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/login"
)

const tooMany = `{"detail":"Too many requests."}`

// theLimits are the defaults.
func theLimits() login.Limits {
	return login.Limits{
		Login: identity.LoginLimits{
			SourceBurst: 20, SourceEvery: 6 * time.Second,
			SourceFailures: identity.Quota{Most: 30, Within: 10 * time.Minute},
			FirstWait:      6, Wait: time.Second, LongestWait: 300 * time.Second, Forget: 15 * time.Minute,
			Parallel:        10,
			AccountFailures: identity.Quota{Most: 100, Within: 24 * time.Hour},
			FamiliarFor:     720 * time.Hour, FamiliarMost: 20,
		},
		User:           identity.Quota{Most: 60, Within: time.Minute},
		RegisterSource: [2]identity.Quota{{Most: 5, Within: time.Hour}, {Most: 20, Within: 24 * time.Hour}},
		Register:       identity.Quota{Most: 200, Within: time.Hour},
	}
}

// limited puts limits on a service.
func limited(changes ...func(*login.Limits)) set {
	return func(o *login.Options) {
		o.Unthrottled, o.Limits, o.ThrottleSecret = false, theLimits(), []byte(secret)
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // where tests come from
		for _, change := range changes {
			change(&o.Limits)
		}
	}
}

// replica is another service on the same database.
func replica(t *testing.T, db *postgres.Store, changes ...set) *stage {
	t.Helper()
	changes = append(changes, func(o *login.Options) {
		o.Accounts, o.Sessions, o.Directory, o.Sweeper, o.Companies, o.Database = db, db, db, db, db, db
		o.Throttle, o.Budgets, o.Invitations, o.Auditor = db, db, db, db
	})
	return newStageWith(t, store{}, password.Options{Upgrade: true, Processors: 5}, changes...)
}

// from says whom a request is from.
func from(r *http.Request, address string) *http.Request {
	r.Header.Set("X-Forwarded-For", address)
	return r
}

// hashed is how many passwords were held against a hash.
func (g *stage) hashed() int { return g.count("gatehouse_login_hash_seconds") }

func TestGuessesAtOnceAgainstTwoReplicas(t *testing.T) {
	one, db := onPostgres(t, limited())
	create(t, db, person(adaEmail, one.hash(rightWords)))
	two := replica(t, db, limited())
	before := one.hashed() + two.hashed()
	var mu sync.Mutex
	answers := map[int]int{}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			w := []*stage{one, two}[i%2].send(credentials(adaEmail, wrongWords))
			mu.Lock()
			defer mu.Unlock()
			answers[w.Code]++
			if w.Code == http.StatusTooManyRequests && (w.Body.String() != tooMany || w.Header().Get("Retry-After") == "") {
				t.Errorf("got %s, Retry-After %q", w.Body, w.Header().Get("Retry-After"))
			}
		})
	}
	all.Wait()
	judged := one.hashed() + two.hashed() - before
	// A busy machine may keep one waiting for a row for longer than is waited.
	refused, late := answers[http.StatusTooManyRequests], answers[http.StatusServiceUnavailable]
	if known := answers[http.StatusUnauthorized]; judged < 6 || judged > 20 || late > 5 || known > judged || known+late < judged || known+refused+late != 200 {
		t.Errorf("%d guesses were judged, and the answers are %v", judged, answers)
	}
	throttled := one.count("gatehouse_login_attempts_total", "throttled") + two.count("gatehouse_login_attempts_total", "throttled")
	blocks := one.count("gatehouse_login_throttle_blocks_total") + two.count("gatehouse_login_throttle_blocks_total")
	if throttled != refused || blocks != throttled {
		t.Errorf("%d are counted as throttled and %d as blocked, want %d", throttled, blocks, refused)
	}
}

func TestRightPasswordsAtOnceAgainstTwoReplicas(t *testing.T) {
	one, db := onPostgres(t, limited())
	create(t, db, person(adaEmail, one.hash(rightWords)))
	two := replica(t, db, limited())
	for range 2 { // 20 is the burst of a source
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				if w := []*stage{one, two}[i%2].send(credentials(adaEmail, rightWords)); w.Code != http.StatusOK {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
	}
	if w := two.send(credentials(adaEmail, rightWords)); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "6" && w.Header().Get("Retry-After") != "5" {
		t.Errorf("the 21st: got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

// Whoever guesses cannot tell an address that somebody has from one that nobody
// has.
func TestTheThrottleKnowsNobody(t *testing.T) {
	g, db := onPostgres(t, limited(func(l *login.Limits) {
		l.Login.AccountFailures.Most, l.Login.Wait = 9, time.Minute
	}))
	create(t, db, person(adaEmail, g.hash(rightWords)))
	for _, email := range []string{adaEmail, nobodyEmail} {
		for i := range 6 {
			if w := g.send(from(credentials(email, wrongWords), "203.0.113.1")); w.Code != http.StatusUnauthorized || w.Body.String() != badCredentials {
				t.Fatalf("%s, guess %d: got %d %s", email, i, w.Code, w.Body)
			}
		}
		for _, spelling := range []string{email, strings.ToUpper(email)} {
			w := g.send(from(credentials(spelling, wrongWords), "203.0.113.1"))
			if w.Code != http.StatusTooManyRequests || w.Body.String() != tooMany || len(w.Header().Get("Retry-After")) != 2 || w.Header().Get("Retry-After") < "50" {
				t.Errorf("%s, then: got %d %s, Retry-After %q", spelling, w.Code, w.Body, w.Header().Get("Retry-After"))
			}
		}
	}
	for _, email := range []string{adaEmail, nobodyEmail} {
		for _, source := range []string{"203.0.113.2", "2001:db8::1", "203.0.113.4"} {
			if w := g.send(from(credentials(email, wrongWords), source)); w.Code != http.StatusUnauthorized {
				t.Fatalf("%s from %s: got %d %s", email, source, w.Code, w.Body)
			}
		}
		w := g.send(from(credentials(email, wrongWords), "203.0.113.5"))
		if w.Code != http.StatusTooManyRequests || w.Body.String() != tooMany || !strings.HasPrefix(w.Header().Get("Retry-After"), "863") && w.Header().Get("Retry-After") != "86400" {
			t.Errorf("%s from a tenth source: got %d %s, Retry-After %q", email, w.Code, w.Body, w.Header().Get("Retry-After"))
		}
	}
}

func TestAVictimLogsInDuringAnAttack(t *testing.T) {
	limits := limited(func(l *login.Limits) { l.Login.AccountFailures.Most = 5 })
	g, db := onPostgres(t, limits)
	create(t, db, person(adaEmail, g.hash(rightWords)))
	raw := ""
	logIn := func(source string, want int) {
		t.Helper()
		w := g.send(from(credentials(adaEmail, rightWords), source))
		if w.Code != want {
			t.Fatalf("from %s: got %d %s, want %d", source, w.Code, w.Body, want)
		}
		if want == http.StatusOK {
			raw, _ = decodeBody(t, w)["access_token"].(string)
		}
	}
	logIn("198.51.100.7", http.StatusOK)
	for i := range 8 {
		want := http.StatusUnauthorized
		if i >= 5 {
			want = http.StatusTooManyRequests
		}
		w := g.send(from(credentials(adaEmail, wrongWords), "203.0.113."+string(rune('1'+i))))
		if w.Code != want {
			t.Fatalf("guess %d: got %d, want %d", i, w.Code, want)
		}
	}
	logIn("203.0.113.200", http.StatusTooManyRequests) // the right words do not help a stranger
	for range 3 {
		logIn("198.51.100.250", http.StatusOK) // the victim's network
	}
	if !g.accepted(raw) {
		t.Error("a token is refused during the attack")
	}
	if w := g.send(asUser(post(logoutPath, ""), raw)); w.Code != http.StatusNoContent {
		t.Errorf("logging out during the attack: %d %s", w.Code, w.Body)
	}
	u, err := db.FindUser(t.Context(), adaEmail)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.UnlockUser(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	logIn("203.0.113.200", http.StatusOK)
}

func TestAWaitIsForTheRightPasswordToo(t *testing.T) {
	g, db := onPostgres(t, limited(func(l *login.Limits) { l.Login.FirstWait, l.Login.Wait = 2, 4*time.Second }))
	create(t, db, person(adaEmail, g.hash(rightWords)))
	for range 2 {
		if w := g.send(credentials(adaEmail, wrongWords)); w.Code != http.StatusUnauthorized {
			t.Fatalf("got %d", w.Code)
		}
	}
	refused := 0
	deadline := time.Now().Add(20 * time.Second)
	for {
		w := g.send(credentials(adaEmail, rightWords))
		if w.Code == http.StatusOK {
			break
		}
		if w.Code != http.StatusTooManyRequests || time.Now().After(deadline) {
			t.Fatalf("got %d %s after %d refusals", w.Code, w.Body, refused)
		}
		refused++
		<-time.After(500 * time.Millisecond) // a client that does not give up; the burst is 20
	}
	if refused == 0 {
		t.Error("there was no wait")
	}
}

func TestAPasswordChangeIsNoWayAroundTheThrottle(t *testing.T) {
	g, db := onPostgres(t, limited(func(l *login.Limits) { l.Login.Wait = time.Minute }))
	create(t, db, person(adaEmail, g.hash(rightWords)))
	raw := g.logIn(adaEmail, rightWords)
	for i := range 6 {
		w := g.send(asUser(post(passwordPath, passwordBody(wrongWords, "other words entirely")), raw))
		if w.Code != http.StatusBadRequest {
			t.Fatalf("guess %d: got %d %s", i, w.Code, w.Body)
		}
	}
	if w := g.send(asUser(post(passwordPath, passwordBody(rightWords, "other words entirely")), raw)); w.Code != http.StatusTooManyRequests || w.Body.String() != tooMany {
		t.Errorf("the next: got %d %s", w.Code, w.Body)
	}
	if w := g.send(credentials(adaEmail, rightWords)); w.Code != http.StatusTooManyRequests {
		t.Errorf("a login: got %d %s", w.Code, w.Body)
	}
	if g.count("gatehouse_login_throttle_blocks_total", "account_source") != 2 {
		t.Error("the refusals are not counted")
	}
}

func TestOneUserDoesNotAskTooOften(t *testing.T) {
	g, db := onPostgres(t, limited(func(l *login.Limits) { l.User = identity.Quota{Most: 3, Within: time.Minute} }))
	create(t, db, person(adaEmail, g.hash(rightWords)))
	create(t, db, person("bob@example.com", g.hash(rightWords)))
	ada, bob := g.logIn(adaEmail, rightWords), g.logIn("bob@example.com", rightWords)
	paths := []string{ensurePath, passwordPath, logoutPath}
	for i := range 6 {
		w := g.send(asUser(post(paths[i%3], `{"scope":"nobody"}`), ada)) // wrong for each of them
		if refused := w.Code == http.StatusTooManyRequests; refused != (i >= 3) {
			t.Errorf("call %d of %s: got %d %s", i, paths[i%3], w.Code, w.Body)
		}
	}
	if w := g.send(asUser(post(logoutPath, ""), bob)); w.Code != http.StatusNoContent {
		t.Errorf("another user: got %d %s", w.Code, w.Body)
	}
	if !g.accepted(ada) {
		t.Error("the token is refused")
	}
	if w := g.send(asUser(post(logoutPath, ""), forged(t))); w.Code != http.StatusUnauthorized {
		t.Errorf("a forged token: got %d %s", w.Code, w.Body)
	}
}

func TestWhatIsOneSource(t *testing.T) {
	g, db := onPostgres(t, limited(func(l *login.Limits) { l.Login.SourceBurst = 1 }))
	create(t, db, person(adaEmail, g.hash(rightWords)))
	for _, tt := range []struct {
		name, address string
		want          int
	}{
		{"an address", "198.51.100.1", 200},
		{"its neighbour", "198.51.100.2", 200},
		{"the address again", "198.51.100.1", 429},
		{"the address as IPv6", "::ffff:198.51.100.1", 429},
		{"what a client says of itself", "203.0.113.99, 198.51.100.1", 429},
		{"an IPv6 network", "2001:db8:0:1::1", 200},
		{"another address of it", "2001:db8:0:1:ffff::2", 429},
		{"the next network", "2001:db8:0:2::1", 200},
	} {
		if w := g.send(from(credentials(adaEmail, rightWords), tt.address)); w.Code != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, w.Code, w.Body, tt.want)
		}
	}
	if strings.Contains(g.log.String(), "trusted proxies") {
		t.Error("a proxy that is trusted is warned of")
	}
	for range 2 {
		r := from(credentials(adaEmail, rightWords), "198.51.100.3")
		r.RemoteAddr = "203.0.113.77:4711"
		g.send(r)
	}
	if n := strings.Count(g.log.String(), "trusted proxies"); n != 1 {
		t.Errorf("a proxy that is not trusted is warned of %d times, want once", n)
	}
}

// What is counted is the same for all spellings of an address and on all services
// with the secret, and means nothing without it.
func TestWhatIsCountedIsKeyed(t *testing.T) {
	keys := func(key, email, address string) [3]identity.ThrottleKey {
		how := &turns{}
		g := newStage(t, holding(adaWith(argonOf(t, rightWords))), limited(), func(o *login.Options) {
			o.Throttle, o.Budgets, o.ThrottleSecret = how, how, []byte(key)
		})
		g.send(from(credentials(email, rightWords), address))
		if len(how.attempts) != 1 {
			t.Fatalf("%d attempts", len(how.attempts))
		}
		a := how.attempts[0]
		return [3]identity.ThrottleKey{a.Source, a.AccountSource, a.Account}
	}
	all := keys(secret, adaEmail, "198.51.100.1")
	for _, tt := range []struct {
		name                string
		key, email, address string
		same                [3]bool
	}{
		{"the same", secret, adaEmail, "198.51.100.1", [3]bool{true, true, true}},
		{"another spelling", secret, "ADA@Example.COM", "198.51.100.1", [3]bool{true, true, true}},
		{"the Kelvin sign, which is no k", secret, "\u212aate@example.com", "198.51.100.1", [3]bool{true, false, false}},
		{"another source", secret, adaEmail, "198.51.100.2", [3]bool{false, false, true}},
		{"another secret", "test-secret-of-another-place-entirely", adaEmail, "198.51.100.1", [3]bool{}},
	} {
		got := keys(tt.key, tt.email, tt.address)
		for i := range got {
			if (got[i] == all[i]) != tt.same[i] {
				t.Errorf("%s: key %d is the same: %v", tt.name, i, got[i] == all[i])
			}
		}
	}
	if all[0] == all[1] || all[1] == all[2] || all[0] == all[2] {
		t.Error("two kinds of keys are the same")
	}
}

// turns is a throttle that lets everybody in and writes down how it ended.
type turns struct {
	fail     error
	reached  identity.ThrottleScope
	attempts []identity.LoginAttempt
	outcomes []identity.LoginOutcome
}

func (t *turns) ReserveLogin(_ context.Context, attempt identity.LoginAttempt) (identity.LoginTurn, error) {
	t.attempts = append(t.attempts, attempt)
	return identity.LoginTurn{}, nil
}

func (t *turns) SettleLogin(ctx context.Context, _ identity.LoginAttempt, _ identity.LoginTurn, outcome identity.LoginOutcome, _ identity.UserID) (identity.ThrottleScope, error) {
	t.outcomes = append(t.outcomes, outcome)
	return t.reached, errors.Join(t.fail, ctx.Err())
}

func (*turns) SweepThrottle(context.Context, time.Duration) (int, error) { return 0, nil }

func (*turns) Spend(context.Context, ...identity.Budget) (bool, time.Duration, error) {
	return true, 0, nil
}
func (*turns) Refund(context.Context, ...identity.ThrottleKey) error { return nil }

func TestHowAnAttemptIsSettled(t *testing.T) {
	good := holding(adaWith(argonOf(t, rightWords)))
	down := good
	down.accountByEmail = func(context.Context, string) (identity.Account, error) {
		return identity.Account{}, errors.New("connection refused")
	}
	readOnly := good
	readOnly.startSession = func(context.Context, identity.LoginRequest) (identity.Login, error) {
		return identity.Login{}, errors.New("connection refused")
	}
	breaking := good
	breaking.startSession = func(context.Context, identity.LoginRequest) (identity.Login, error) { panic("fault") }
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	for _, tt := range []struct {
		name    string
		store   store
		words   string
		fail    error // of settling
		ctx     context.Context
		status  int
		outcome identity.LoginOutcome
	}{
		{"the right password", good, rightWords, nil, t.Context(), 200, identity.LoginSucceeded},
		{"the wrong one", good, wrongWords, nil, t.Context(), 401, identity.LoginFailed},
		{"the wrong one, from a client that hangs up", good, wrongWords, nil, gone, 401, identity.LoginFailed},
		{"the wrong one, that cannot be counted", good, wrongWords, errors.New("connection refused"), t.Context(), 503, identity.LoginFailed},
		{"the right one, that cannot be counted", good, rightWords, errors.New("connection refused"), t.Context(), 200, identity.LoginSucceeded},
		{"none, without a store", down, wrongWords, nil, t.Context(), 503, identity.LoginUndecided},
		{"the right one, without a session", readOnly, rightWords, nil, t.Context(), 503, identity.LoginSucceeded},
		{"a fault of ours", breaking, rightWords, nil, t.Context(), 500, identity.LoginSucceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			how := &turns{fail: tt.fail}
			g := newStage(t, tt.store, limited(), func(o *login.Options) { o.Throttle, o.Budgets = how, how })
			w := g.send(credentials(adaEmail, tt.words).WithContext(tt.ctx))
			if w.Code != tt.status || len(how.outcomes) != 1 || how.outcomes[0] != tt.outcome {
				t.Errorf("got %d, settled as %v; want %d, %v", w.Code, how.outcomes, tt.status, tt.outcome)
			}
		})
	}
}

func TestThatALimitWasReachedIsRecorded(t *testing.T) {
	for email, want := range map[string]int{adaEmail: 1, nobodyEmail: 0} {
		var mu sync.Mutex
		var events []identity.Event
		s := holding(adaWith(argonOf(t, rightWords)))
		s.audit = func(_ context.Context, e identity.Event) error {
			mu.Lock()
			defer mu.Unlock()
			if e.Name == "throttle.blocked" {
				events = append(events, e)
			}
			return nil
		}
		how := &turns{reached: identity.ScopeAccount}
		g := newStage(t, s, limited(), func(o *login.Options) { o.Throttle, o.Budgets = how, how })
		g.send(credentials(email, wrongWords))
		done, stop := context.WithCancel(t.Context())
		stop()
		g.service.Record(done) // what is left
		if len(events) != want || want == 1 && (events[0].Subject != ada || events[0].Details["scope"] != "account") {
			t.Errorf("%s: recorded %+v", email, events)
		}
	}
}

func TestAServiceDoesNotForgetItsThrottle(t *testing.T) {
	var complete login.Options
	newStage(t, store{}, limited(), func(o *login.Options) {
		o.Throttle, o.Budgets = &turns{}, &turns{}
		complete = *o
	})
	complete.Metrics = nil
	for name, change := range map[string]set{
		"no throttle": func(o *login.Options) { o.Throttle = nil },
		"no budgets":  func(o *login.Options) { o.Budgets = nil },
		"no secret":   func(o *login.Options) { o.ThrottleSecret = nil },
	} {
		o := complete
		change(&o)
		if _, err := login.New(o); err == nil {
			t.Errorf("%s: a service was made", name)
		}
		o.Unthrottled = true
		if _, err := login.New(o); err != nil {
			t.Errorf("%s, and none wanted: %v", name, err)
		}
	}
}
