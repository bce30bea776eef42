package postgres_test

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// theFigures are the defaults.
func theFigures() identity.LoginLimits {
	return identity.LoginLimits{
		SourceBurst: 20, SourceEvery: 6 * time.Second,
		SourceFailures: identity.Quota{Most: 30, Within: 10 * time.Minute},
		FirstWait:      6, Wait: time.Second, LongestWait: 300 * time.Second, Forget: 15 * time.Minute,
		Parallel:        10,
		AccountFailures: identity.Quota{Most: 100, Within: 24 * time.Hour},
		FamiliarFor:     720 * time.Hour, FamiliarMost: 20,
	}
}

// guesses are made against a store, each from a source and about an address that
// are named by a number.
type guesses struct {
	t     *testing.T
	store *postgres.Store
	db    *database
	user  identity.UserID // whom address 1 belongs to
	with  identity.LoginLimits
	began time.Time // of the time that passes by itself
}

func newGuesses(t *testing.T) *guesses {
	t.Helper()
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "one@example.com", identity.CompanyID{})
	return &guesses{t: t, store: store, db: db, user: userID(1), with: theFigures(), began: time.Now()}
}

func key(kind, a, b byte) identity.ThrottleKey { return identity.ThrottleKey{kind, a, b} }

// at is an attempt on address 1 from a source; each source is a network.
func (g *guesses) at(source byte) identity.LoginAttempt {
	return identity.LoginAttempt{
		Source: key('s', source, 0), AccountSource: key('p', source, 1), Account: key('a', 0, 1),
		Email:   "ONE@example.com",
		Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, source, 7}), 24),
		Limits:  g.with,
	}
}

func (g *guesses) reserve(a identity.LoginAttempt) identity.LoginTurn {
	g.t.Helper()
	turn, err := g.store.ReserveLogin(testContext(g.t), a)
	if err != nil {
		g.t.Fatal(err)
	}
	return turn
}

func (g *guesses) settle(a identity.LoginAttempt, turn identity.LoginTurn, outcome identity.LoginOutcome) identity.ThrottleScope {
	g.t.Helper()
	reached, err := g.store.SettleLogin(testContext(g.t), a, turn, outcome, g.user)
	if err != nil {
		g.t.Fatal(err)
	}
	return reached
}

// guess is a whole attempt; the scope that refused it, or none.
func (g *guesses) guess(source byte, outcome identity.LoginOutcome) identity.LoginTurn {
	g.t.Helper()
	a := g.at(source)
	turn := g.reserve(a)
	if turn.Refused == "" {
		g.settle(a, turn, outcome)
	}
	return turn
}

// expect holds a turn against a scope and the time to wait, of which what the test has
// lasted may have passed.
func (g *guesses) expect(what string, turn identity.LoginTurn, want identity.ThrottleScope, wait time.Duration) {
	g.t.Helper()
	if turn.Refused != want || turn.RetryAfter > wait || turn.RetryAfter < wait-time.Second-time.Since(g.began) {
		g.t.Fatalf("%s: refused by %q for %v, want %q for %v", what, turn.Refused, turn.RetryAfter, want, wait)
	}
}

// pass lets time pass for everything that is counted.
func (g *guesses) pass(d time.Duration) {
	g.t.Helper()
	g.db.exec(`UPDATE login_throttle SET last_at = last_at - $1::interval, blocked_until = blocked_until - $1::interval,
		expires_at = expires_at - $1::interval, marks = ARRAY(SELECT m - $1::interval FROM unnest(marks) WITH ORDINALITY u(m, i) ORDER BY i)`, d)
	g.db.exec(`UPDATE login_known_sources SET last_success = last_success - $1::interval`, d)
}

func TestASourceHasABurstAndThenARate(t *testing.T) {
	g := newGuesses(t)
	for range 20 {
		g.expect("within the burst", g.guess(1, identity.LoginSucceeded), "", 0)
	}
	for range int(time.Since(g.began) / (6 * time.Second)) {
		g.guess(1, identity.LoginSucceeded) // what has come back since
	}
	g.expect("after the burst", g.guess(1, identity.LoginSucceeded), identity.ScopeSource, 6*time.Second)
	g.expect("and again, which costs nothing", g.guess(1, identity.LoginSucceeded), identity.ScopeSource, 6*time.Second)
	g.expect("another source", g.guess(2, identity.LoginSucceeded), "", 0)
	g.pass(6 * time.Second)
	g.expect("six seconds later", g.guess(1, identity.LoginSucceeded), "", 0)
	g.expect("but once", g.guess(1, identity.LoginSucceeded), identity.ScopeSource, 6*time.Second)
	g.pass(time.Hour)
	for range 20 {
		g.expect("never more than the burst", g.guess(1, identity.LoginUndecided), "", 0)
	}
	for range 20 {
		g.expect("what was not judged was given back", g.guess(1, identity.LoginSucceeded), "", 0)
	}
	g.expect("and no more", g.guess(1, identity.LoginSucceeded), identity.ScopeSource, 6*time.Second)
}

func TestASourceMayFailThirtyTimesInTenMinutes(t *testing.T) {
	g := newGuesses(t)
	g.with.SourceBurst, g.with.FirstWait = 0, 0
	g.guess(1, identity.LoginFailed)
	g.pass(4 * time.Minute)
	for range 29 {
		g.expect("within the quota", g.guess(1, identity.LoginFailed), "", 0)
	}
	g.expect("beyond it", g.guess(1, identity.LoginFailed), identity.ScopeSource, 6*time.Minute)
	g.pass(6 * time.Minute)
	g.expect("when the first is ten minutes old", g.guess(1, identity.LoginFailed), "", 0)
	g.expect("and once only", g.guess(1, identity.LoginFailed), identity.ScopeSource, 4*time.Minute)
	g.with.SourceFailures.Most = 0
	g.expect("without the quota", g.guess(1, identity.LoginFailed), "", 0)
}

func TestASourceWaitsLongerAfterEachFailureFromTheSixthOn(t *testing.T) {
	g := newGuesses(t)
	g.with.SourceBurst, g.with.SourceFailures.Most = 0, 0
	for range 6 {
		g.expect("the first six", g.guess(1, identity.LoginFailed), "", 0)
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		wait := time.Duration(seconds) * time.Second
		g.expect("at once", g.guess(1, identity.LoginFailed), identity.ScopeAccountSource, wait)
		g.pass(wait / 2)
		g.expect("within the wait, which that does not extend", g.guess(1, identity.LoginFailed), identity.ScopeAccountSource, wait/2)
		g.expect("from another source", g.guess(2, identity.LoginSucceeded), "", 0)
		g.pass(wait - wait/2)
		g.expect("after the wait", g.guess(1, identity.LoginFailed), "", 0)
	}
	g.pass(300 * time.Second)
	g.guess(1, identity.LoginSucceeded)
	for range 6 {
		g.expect("after a success all begins anew", g.guess(1, identity.LoginFailed), "", 0)
	}
	g.expect("and ends the same", g.guess(1, identity.LoginFailed), identity.ScopeAccountSource, time.Second)
	g.pass(15*time.Minute + time.Second)
	for range 6 {
		g.expect("after fifteen quiet minutes too", g.guess(1, identity.LoginFailed), "", 0)
	}
	g.with.FirstWait = 0
	g.pass(time.Second)
	g.guess(1, identity.LoginFailed)
	g.expect("without the limit", g.guess(1, identity.LoginFailed), "", 0)
}

// Who hears of a failure when the wait for it would be over has not been told to wait.
func TestAWaitBeginsWithTheAnswer(t *testing.T) {
	g := newGuesses(t)
	held := g.at(1)
	held.HeldBack = 40 * time.Second
	for range 6 {
		turn := g.reserve(held)
		g.expect("a failure", turn, "", 0)
		g.settle(held, turn, identity.LoginFailed)
	}
	g.expect("after the sixth", g.reserve(held), identity.ScopeAccountSource, 41*time.Second)
}

func TestAttemptsAtTheSameTime(t *testing.T) {
	g := newGuesses(t)
	g.with.SourceBurst = 0
	a := g.at(1)
	turn := identity.LoginTurn{}
	for range 10 {
		turn = g.reserve(a)
		g.expect("ten are judged at once", turn, "", 0)
	}
	g.expect("the eleventh", g.reserve(a), identity.ScopeAccountSource, 0)
	g.settle(a, turn, identity.LoginUndecided)
	g.expect("when one ended", g.reserve(a), "", 0)
	g.pass(16 * time.Second)
	g.expect("what a dead service began lapses", g.reserve(a), "", 0)
	g.settle(a, turn, identity.LoginSucceeded)

	for range 6 {
		g.guess(1, identity.LoginFailed)
	}
	g.pass(time.Second)
	g.expect("who has waited is judged", g.reserve(a), "", 0)
	g.expect("alone", g.reserve(a), identity.ScopeAccountSource, 0)
}

// What reaches the hash is bounded, whatever comes at once, and those who are
// right are never among the refused.
//
// M13: what is being judged counts before it is judged, and no more than that.
func TestManyAttemptsAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name       string
		many       int
		outcome    identity.LoginOutcome
		change     func(*identity.LoginLimits)
		low, admit int
	}{
		{"200 wrong ones", 200, identity.LoginFailed, func(*identity.LoginLimits) {}, 6, 20},
		{"200 wrong ones from a source without a limit", 200, identity.LoginFailed, func(l *identity.LoginLimits) { l.SourceBurst = 0 }, 6, 20},
		{"10 right ones", 10, identity.LoginSucceeded, func(*identity.LoginLimits) {}, 10, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuesses(t)
			tt.change(&g.with)
			var admitted atomic.Int32
			// Two services, as if.
			stores := []*postgres.Store{g.store, g.db.open(postgres.Options{MaxConns: 4})}
			var all sync.WaitGroup
			for i := range tt.many {
				all.Go(func() {
					a := g.at(1)
					turn, err := stores[i%2].ReserveLogin(testContext(t), a)
					if err != nil {
						t.Error(err)
						return
					}
					if turn.Refused != "" {
						return
					}
					admitted.Add(1)
					<-time.After(20 * time.Millisecond) // the hash
					if _, err := stores[i%2].SettleLogin(testContext(t), a, turn, tt.outcome, g.user); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := int(admitted.Load()); n < tt.low || n > tt.admit {
				t.Errorf("%d were judged, want %d to %d", n, tt.low, tt.admit)
			}
		})
	}
}

func TestUnfamiliarSourcesTogetherMayFailAHundredTimesADay(t *testing.T) {
	g := newGuesses(t)
	g.with.SourceBurst, g.with.SourceFailures.Most, g.with.FirstWait = 0, 0, 0
	g.with.AccountFailures.Most = 5 // as good as 100
	g.guess(1, identity.LoginSucceeded)
	g.guess(1, identity.LoginFailed) // familiar: not counted
	g.pass(time.Hour)
	for i := range byte(4) {
		g.expect("unfamiliar", g.guess(10+i, identity.LoginFailed), "", 0)
	}
	a := g.at(20)
	turn := g.reserve(a)
	g.expect("the last that may be judged", turn, "", 0)
	g.expect("while it is", g.guess(21, identity.LoginFailed), identity.ScopeAccount, 0)
	g.settle(a, turn, identity.LoginFailed)
	g.expect("afterwards", g.guess(22, identity.LoginSucceeded), identity.ScopeAccount, 24*time.Hour)
	for range 12 {
		g.expect("the refused one is not left in the count", g.guess(22, identity.LoginSucceeded), identity.ScopeAccount, 24*time.Hour)
	}
	familiar := g.guess(1, identity.LoginSucceeded)
	if g.expect("a familiar source", familiar, "", 0); !familiar.Familiar {
		t.Error("it is not called familiar")
	}
	other := g.at(30)
	other.AccountSource, other.Account, other.Email = key('p', 30, 2), key('a', 0, 2), "two@example.com"
	g.expect("another account", g.reserve(other), "", 0)
	g.pass(24 * time.Hour)
	g.expect("a day later", g.guess(22, identity.LoginSucceeded), "", 0)
	if again := g.reserve(g.at(22)); !again.Familiar {
		t.Error("a success made nobody familiar")
	}
}

// Which failure reaches a limit is said once.
func TestReachingALimit(t *testing.T) {
	g := newGuesses(t)
	g.with.FirstWait, g.with.AccountFailures.Most = 3, 4
	var got []identity.ThrottleScope
	for range 3 {
		got = append(got, g.settle(g.at(1), g.reserve(g.at(1)), identity.LoginFailed))
	}
	got = append(got, g.settle(g.at(2), g.reserve(g.at(2)), identity.LoginFailed))
	g.pass(24 * time.Hour)
	got = append(got, g.settle(g.at(2), g.reserve(g.at(2)), identity.LoginFailed), g.settle(g.at(2), g.reserve(g.at(2)), identity.LoginSucceeded))
	want := []identity.ThrottleScope{"", "", identity.ScopeAccountSource, identity.ScopeAccount, "", ""}
	if !slices.Equal(got, want) {
		t.Errorf("reached %q, want %q", got, want)
	}
}

// As behind a proxy that pools transactions.
func TestTheThrottleWithoutPreparedStatements(t *testing.T) {
	g := newGuesses(t)
	g.store = g.db.open(postgres.Options{URL: g.db.url + "&default_query_exec_mode=exec", MaxConns: 2})
	for _, outcome := range []identity.LoginOutcome{identity.LoginSucceeded, identity.LoginFailed, identity.LoginUndecided} {
		g.expect("an attempt", g.guess(1, outcome), "", 0)
	}
	if !g.reserve(g.at(1)).Familiar {
		t.Error("a network is not remembered")
	}
	g.with.AccountFailures.Most = 1
	g.guess(2, identity.LoginFailed)
	g.expect("the next", g.guess(3, identity.LoginFailed), identity.ScopeAccount, 24*time.Hour)
	budget := identity.Budget{Key: key('u', 0, 0), Quotas: [2]identity.Quota{{Most: 1, Within: time.Hour}}}
	for _, want := range []bool{true, false} {
		if ok, _, err := g.store.Spend(testContext(t), budget); ok != want || err != nil {
			t.Errorf("got %v, %v, want %v", ok, err, want)
		}
	}
	if err := g.store.Refund(testContext(t), budget.Key); err != nil {
		t.Error(err)
	}
	if _, err := g.store.UnlockUser(testContext(t), g.user); err != nil {
		t.Error(err)
	}
	if _, err := g.store.SweepThrottle(testContext(t), time.Hour); err != nil {
		t.Error(err)
	}
}

func TestNetworksBecomeUnfamiliar(t *testing.T) {
	g := newGuesses(t)
	g.with.FamiliarMost = 3
	for _, source := range []byte{1, 2, 3, 1, 4} {
		g.guess(source, identity.LoginSucceeded)
		g.pass(2 * time.Hour)
	}
	for source, want := range map[byte]bool{1: true, 2: false, 3: true, 4: true} {
		if got := g.reserve(g.at(source)).Familiar; got != want {
			t.Errorf("network %d is familiar: %v, want %v", source, got, want)
		}
	}
	nowhere := g.at(1)
	nowhere.Network = netip.Prefix{}
	if g.reserve(nowhere).Familiar {
		t.Error("an unknown network is familiar")
	}
	g.pass(720 * time.Hour)
	if g.reserve(g.at(4)).Familiar {
		t.Error("a network is familiar for longer than 30 days")
	}
}

// Strangers guessed at an address before it had a user.
func TestUnlockingAUserWhoseAddressWasLockedBefore(t *testing.T) {
	g := newGuesses(t)
	g.with.AccountFailures.Most = 6
	for source := range byte(6) {
		a := g.at(source)
		if _, err := g.store.SettleLogin(testContext(t), a, g.reserve(a), identity.LoginFailed, identity.UserID{}); err != nil {
			t.Fatal(err)
		}
	}
	g.expect("the user is refused", g.guess(9, identity.LoginFailed), identity.ScopeAccount, 24*time.Hour)
	if unlocked, err := g.store.UnlockUser(testContext(t), g.user); !unlocked || err != nil {
		t.Errorf("got %v, %v", unlocked, err)
	}
	g.expect("the user", g.guess(9, identity.LoginFailed), "", 0)
}

func TestUnlockingAUser(t *testing.T) {
	for name, unlock := range map[string]func(*guesses){
		"by the operator": func(g *guesses) {
			if unlocked, err := g.store.UnlockUser(testContext(g.t), g.user); !unlocked || err != nil {
				g.t.Errorf("got %v, %v", unlocked, err)
			}
			if unlocked, err := g.store.UnlockUser(testContext(g.t), g.user); unlocked || err != nil {
				g.t.Errorf("the second time: %v, %v", unlocked, err)
			}
		},
		"by a new password": func(g *guesses) {
			if _, err := g.store.SetPassword(testContext(g.t), g.user, aHash); err != nil {
				g.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuesses(t)
			g.with.AccountFailures.Most = 6
			for range 6 {
				g.guess(1, identity.LoginFailed)
			}
			g.expect("the source waits", g.guess(1, identity.LoginFailed), identity.ScopeAccountSource, time.Second)
			g.expect("the others are refused", g.guess(2, identity.LoginFailed), identity.ScopeAccount, 24*time.Hour)
			unlock(g)
			g.expect("the source", g.guess(1, identity.LoginFailed), "", 0)
			g.expect("another", g.guess(2, identity.LoginFailed), "", 0)
		})
	}
}

func TestSpendingFromBudgets(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	g := &guesses{t: t, store: store, db: db}
	one := identity.Budget{Key: key('r', 1, 0), Quotas: [2]identity.Quota{{Most: 2, Within: time.Hour}, {Most: 3, Within: 24 * time.Hour}}}
	all := identity.Budget{Key: key('r', 0, 0), Quotas: [2]identity.Quota{{Most: 4, Within: time.Hour}}}
	// Each step stands on the one before.
	for _, step := range []struct {
		name    string
		pass    time.Duration
		budgets []identity.Budget
		ok      bool
		wait    time.Duration
	}{
		{"the first", 0, []identity.Budget{one, all}, true, 0},
		{"the second, half an hour later", 30 * time.Minute, []identity.Budget{one, all}, true, 0},
		{"the third in an hour", 0, []identity.Budget{one, all}, false, 30 * time.Minute},
		{"the third, an hour after the first", 30 * time.Minute, []identity.Budget{one, all}, true, 0},
		{"the fourth in a day", time.Hour, []identity.Budget{one, all}, false, 22 * time.Hour},
		{"a budget for all alone", 0, []identity.Budget{all}, true, 0},
		{"and three times more", 0, []identity.Budget{all}, true, 0},
		{"of which this is the second", 0, []identity.Budget{all}, true, 0},
		{"and this the third", 0, []identity.Budget{all}, true, 0},
		{"the fifth of all in an hour", 0, []identity.Budget{all}, false, time.Hour},
		{"a day later, although the other budget is used up", 22 * time.Hour, []identity.Budget{one}, true, 0},
	} {
		g.pass(step.pass)
		ok, wait, err := store.Spend(testContext(t), step.budgets...)
		if err != nil || ok != step.ok || wait > step.wait || wait < step.wait-time.Second {
			t.Fatalf("%s: %v, wait %v, %v; want %v, wait %v", step.name, ok, wait, err, step.ok, step.wait)
		}
	}
	if ok, _, err := store.Spend(testContext(t), one); ok || err != nil {
		t.Fatalf("got %v, %v before the refund", ok, err)
	}
	if err := store.Refund(testContext(t), one.Key, all.Key); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := store.Spend(testContext(t), one); !ok || err != nil {
		t.Fatalf("got %v, %v after the refund", ok, err)
	}
	// Nothing is taken of the first where the second is used up.
	empty := identity.Budget{Key: key('r', 9, 0), Quotas: [2]identity.Quota{{Most: 1, Within: time.Hour}}}
	fresh := identity.Budget{Key: key('r', 8, 0), Quotas: [2]identity.Quota{{Most: 1, Within: time.Hour}}}
	for i, want := range []struct {
		budgets []identity.Budget
		ok      bool
	}{{[]identity.Budget{empty}, true}, {[]identity.Budget{fresh, empty}, false}, {[]identity.Budget{fresh}, true}} {
		if ok, _, err := store.Spend(testContext(t), want.budgets...); ok != want.ok || err != nil {
			t.Fatalf("step %d: %v, %v", i, ok, err)
		}
	}
}

func TestSweepingWhatCountsForNothing(t *testing.T) {
	g := newGuesses(t)
	g.guess(1, identity.LoginSucceeded)
	g.guess(2, identity.LoginFailed)
	sweep := func(want string) {
		t.Helper()
		if _, err := g.store.SweepThrottle(testContext(t), 720*time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := g.db.one(`SELECT concat_ws(' ', (SELECT count(*) FROM login_throttle), (SELECT count(*) FROM login_known_sources))`); got != want {
			t.Errorf("%s rows are left, want %s", got, want)
		}
	}
	sweep("5 1") // two sources, two pairs, one account
	g.pass(20 * time.Minute)
	sweep("1 1") // a day's failures
	g.pass(24 * time.Hour)
	sweep("0 1")
	g.pass(720 * time.Hour)
	sweep("0 0")
}
