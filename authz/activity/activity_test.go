package activity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/authz/activity"
	"github.com/atenex/gatehouse/internal/identity"
)

// storeFunc answers a batch.
type storeFunc func(context.Context, []identity.Question) ([]identity.Standing, error)

func (f storeFunc) Standings(ctx context.Context, q []identity.Question) ([]identity.Standing, error) {
	return f(ctx, q)
}

// counting answers each question alike and keeps count of reads and questions.
type counting struct {
	answer  func(identity.Question) identity.Standing
	batches atomic.Int64
	asked   atomic.Int64
}

func (c *counting) Standings(_ context.Context, questions []identity.Question) ([]identity.Standing, error) {
	c.batches.Add(1)
	c.asked.Add(int64(len(questions)))
	out := make([]identity.Standing, len(questions))
	for i, q := range questions {
		out[i] = c.answer(q)
	}
	return out, nil
}

func active(identity.Question) identity.Standing {
	return identity.Standing{Exists: true, Active: true, Email: "ada@example.com",
		Session:     identity.Session{Exists: true},
		Memberships: []identity.Membership{{Company: identity.CompanyID{1}, Role: "user"}, {Company: identity.CompanyID{2}, Role: "admin"}}}
}

type fixture struct {
	*activity.Cache
	t        *testing.T
	registry *prometheus.Registry
	log      *bytes.Buffer
}

func newCache(t *testing.T, store activity.Store, change ...func(*activity.Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, registry: prometheus.NewPedanticRegistry(), log: &bytes.Buffer{}}
	o := activity.Options{Store: store, Registerer: f.registry,
		Logger: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))}
	for _, c := range change {
		c(&o)
	}
	var err error
	if f.Cache, err = activity.New(o); err != nil {
		t.Fatal(err)
	}
	return f
}

// heard makes the feed live from now on.
func (f *fixture) heard() {
	f.Flush()
	f.Alive(time.Now())
}

func (f *fixture) standing(user, session, company byte) identity.Standing {
	f.t.Helper()
	var q identity.Question
	q.User[0], q.Session[0], q.Company[0] = user, session, company
	s, err := f.Standing(f.t.Context(), q.User, q.Session, q.Company)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) metric(name string) float64 {
	f.t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	var sum float64
	found := false
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		found = true
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		f.t.Errorf("no metric %s", name)
	}
	return sum
}

func TestWhatIsRememberedIsForgottenByItsNoticeAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		notice func(*activity.Cache)
		want   bool // forgotten
	}{
		{"nothing is said", func(*activity.Cache) {}, false},
		{"the user changes", func(c *activity.Cache) { c.User(identity.UserID{1}) }, true},
		{"another user changes", func(c *activity.Cache) { c.User(identity.UserID{2}) }, false},
		{"the session ends", func(c *activity.Cache) { c.Session(identity.SessionID{1}) }, true},
		{"another session ends", func(c *activity.Cache) { c.Session(identity.SessionID{2}) }, false},
		{"the company is suspended", func(c *activity.Cache) { c.Company(identity.CompanyID{1}) }, true},
		{"a company that the user also belongs to is suspended", func(c *activity.Cache) { c.Company(identity.CompanyID{2}) }, true},
		{"another company is suspended", func(c *activity.Cache) { c.Company(identity.CompanyID{3}) }, false},
		{"everything may have changed", func(c *activity.Cache) { c.Flush() }, true},
		{"changes were not heard for a while", func(c *activity.Cache) { c.Lost("a test"); c.Flush(); c.Alive(time.Now()) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &counting{answer: active}
				f := newCache(t, store)
				f.heard()
				first := f.standing(1, 1, 1)
				c.notice(f.Cache)
				if diff := cmp.Diff(first, f.standing(1, 1, 1)); diff != "" {
					t.Errorf("remembered otherwise than read (-read +remembered):\n%s", diff)
				}
				if got := store.asked.Load() == 2; got != c.want {
					t.Errorf("%d reads, want forgotten: %v", store.asked.Load(), c.want)
				}
			})
		})
	}
}

// The 9th company is past those that are looked at one by one.
func TestAUserOfManyCompaniesFallsToANoticeAboutAnyOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{answer: func(identity.Question) identity.Standing {
			s := identity.Standing{Exists: true}
			for n := range byte(40) {
				s.Memberships = append(s.Memberships, identity.Membership{Company: identity.CompanyID{n + 1}})
			}
			return s
		}}
		f := newCache(t, store)
		f.heard()
		for n := range byte(40) {
			f.standing(1, 0, 0)
			before := store.asked.Load()
			f.standing(1, 0, 0)
			if store.asked.Load() != before {
				t.Fatal("not remembered")
			}
			f.Company(identity.CompanyID{n + 1})
			f.standing(1, 0, 0)
			if store.asked.Load() != before+1 {
				t.Errorf("company %d is suspended, and nobody is asked", n)
			}
		}
	})
}

func TestHowLongAnAnswerIsRemembered(t *testing.T) {
	gone := func(identity.Question) identity.Standing { return identity.Standing{} }
	noSession := func(identity.Question) identity.Standing { return identity.Standing{Exists: true, Active: true} }
	for _, c := range []struct {
		name    string
		answer  func(identity.Question) identity.Standing
		session byte
		after   time.Duration
		beats   bool
		want    bool // from memory
	}{
		{"a user is remembered", active, 1, 29 * time.Second, true, true},
		{"a user is not remembered for longer than 30 s", active, 1, 30 * time.Second, true, false},
		{"that a user does not exist is remembered", gone, 0, 900 * time.Millisecond, true, true},
		{"that a user does not exist is not remembered for longer than 1 s", gone, 1, time.Second, true, false},
		{"that a session does not exist is never remembered, for nothing tells of a new one", noSession, 1, 0, true, false},
		{"a user without a session is", noSession, 0, 0, true, true},
		{"memory is used while the last proof of life is young", active, 1, 999 * time.Millisecond, false, true},
		{"memory is not used once it is older than the bound", active, 1, time.Second, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &counting{answer: c.answer}
				f := newCache(t, store)
				f.heard()
				f.standing(1, c.session, 1)
				time.Sleep(c.after) //nolint:forbidigo // the bubble's clock, which costs no time
				if c.beats {
					f.Alive(time.Now())
				}
				f.standing(1, c.session, 1)
				if got := store.asked.Load() == 1; got != c.want {
					t.Errorf("%d reads, want from memory: %v", store.asked.Load(), c.want)
				}
			})
		})
	}
}

func TestNothingIsRememberedBeforeChangesAreHeard(t *testing.T) {
	store := &counting{answer: active}
	f := newCache(t, store)
	for range 3 {
		f.standing(1, 1, 1)
	}
	f.heard()
	f.standing(1, 1, 1)
	f.standing(1, 1, 1)
	if got := store.asked.Load(); got != 4 {
		t.Errorf("%d reads, want 3 and then 1", got)
	}
	// A proof that took long is as old as its question.
	f.Lost("a test")
	f.Flush()
	f.Alive(time.Now().Add(-time.Second))
	f.standing(1, 1, 1)
	f.standing(1, 1, 1)
	if got := store.asked.Load(); got != 6 {
		t.Errorf("%d reads after a proof that is a second old, want 6", got)
	}
}

// held is a store whose reads wait to be let go.
type held struct {
	began  chan []identity.Question
	letGo  chan identity.Standing
	failed error
}

func (h *held) Standings(ctx context.Context, q []identity.Question) ([]identity.Standing, error) {
	h.began <- slices.Clone(q)
	select {
	case s := <-h.letGo:
		if h.failed != nil {
			return nil, h.failed
		}
		return slices.Repeat([]identity.Standing{s}, len(q)), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newHeld() *held {
	return &held{began: make(chan []identity.Question, 10), letGo: make(chan identity.Standing)}
}

func TestMissesMeetInOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld()
		f := newCache(t, h)
		f.heard()
		var wait sync.WaitGroup
		ask := func(user byte) { wait.Go(func() { f.standing(user, 0, 0) }) }
		ask(1)
		synctest.Wait()
		// One is under way; the rest waits for the next, each question once.
		for user := range byte(10) {
			for range 5 {
				ask(user)
			}
		}
		synctest.Wait()
		if first := <-h.began; len(first) != 1 {
			t.Errorf("the first read asks %d questions, want 1", len(first))
		}
		if n := len(h.began); n != 0 {
			t.Errorf("%d more reads than one at a time", n)
		}
		h.letGo <- active(identity.Question{})
		synctest.Wait()
		if next := <-h.began; len(next) != 10 {
			t.Errorf("the next read asks %d questions, want 10", len(next))
		}
		h.letGo <- active(identity.Question{})
		wait.Wait()
	})
}

func TestOthersReadBesideOneThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld()
		f := newCache(t, h)
		f.heard()
		var wait sync.WaitGroup
		for user := range byte(6) {
			wait.Go(func() { f.standing(user, 0, 0) })
			time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the bubble's clock
		}
		if n := len(h.began); n != 4 {
			t.Errorf("%d reads under way, each of them slow, want 4 and no more", n)
		}
		for range 5 {
			h.letGo <- active(identity.Question{})
		}
		wait.Wait()
	})
}

func TestOneReadAsksNoMoreThanABatchHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld()
		f := newCache(t, h)
		f.heard()
		var wait sync.WaitGroup
		ask := func(n int) {
			wait.Go(func() {
				if _, err := f.Standing(t.Context(), identity.UserID{byte(n), byte(n >> 8)}, identity.SessionID{}, identity.CompanyID{}); err != nil {
					t.Error(err)
				}
			})
		}
		// As many as may read at a time are at it, each of them slow, so that what comes
		// now waits until one is let go. Otherwise some would begin with what has come
		// by then.
		for n := range 4 {
			ask(n)
			time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the bubble's clock
		}
		for n := range 600 {
			ask(4 + n)
		}
		synctest.Wait()
		var sizes []int
		for asked := 0; asked < 604; {
			sizes = append(sizes, len(<-h.began))
			asked += sizes[len(sizes)-1]
			h.letGo <- identity.Standing{}
			synctest.Wait()
		}
		wait.Wait()
		if want := []int{1, 1, 1, 1, 256, 256, 88}; !slices.Equal(sizes, want) {
			t.Errorf("reads of %v questions, want %v", sizes, want)
		}
	})
}

// The read that the second caller finds under way may have seen the database
// before the change that the caller knows of.
func TestACallerIsAnsweredByAReadThatBeganAfterItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld()
		f := newCache(t, h)
		f.heard()
		var wait sync.WaitGroup
		var before, after identity.Standing
		wait.Go(func() { before = f.standing(1, 0, 0) })
		synctest.Wait()
		f.User(identity.UserID{1})
		wait.Go(func() { after = f.standing(1, 0, 0) })
		synctest.Wait()
		<-h.began
		h.letGo <- identity.Standing{Exists: true, Active: true}
		<-h.began
		h.letGo <- identity.Standing{Exists: true}
		wait.Wait()
		if !before.Active || after.Active {
			t.Errorf("before the notice active: %v, after it: %v", before.Active, after.Active)
		}
		if s, known := f.Peek(identity.UserID{1}, identity.SessionID{}, identity.CompanyID{}, time.Now()); !known || s.Active {
			t.Errorf("remembered: %v, active: %v; want the second answer", known, s.Active)
		}
	})
}

func TestAStoreThatFails(t *testing.T) {
	t.Run("its error is the answer, and is not remembered", func(t *testing.T) {
		down := errors.New("down")
		calls := 0
		f := newCache(t, storeFunc(func(_ context.Context, q []identity.Question) ([]identity.Standing, error) {
			if calls++; calls == 1 {
				return nil, down
			}
			return make([]identity.Standing, len(q)), nil
		}))
		f.heard()
		if _, err := f.Standing(t.Context(), identity.UserID{1}, identity.SessionID{}, identity.CompanyID{}); !errors.Is(err, down) {
			t.Errorf("err = %v", err)
		}
		f.standing(1, 0, 0)
	})
	t.Run("a panic in it is an error", func(t *testing.T) {
		f := newCache(t, storeFunc(func(context.Context, []identity.Question) ([]identity.Standing, error) { panic("test-secret") }))
		if _, err := f.Standing(t.Context(), identity.UserID{1}, identity.SessionID{}, identity.CompanyID{}); err == nil {
			t.Error("a panic is an answer")
		}
	})
	t.Run("too few answers are an error", func(t *testing.T) {
		f := newCache(t, storeFunc(func(context.Context, []identity.Question) ([]identity.Standing, error) { return nil, nil }))
		if _, err := f.Standing(t.Context(), identity.UserID{1}, identity.SessionID{}, identity.CompanyID{}); err == nil {
			t.Error("no answer is an answer")
		}
	})
	t.Run("a silent one costs a caller its own time, and whoever has left is not asked about", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHeld()
			f := newCache(t, h, func(o *activity.Options) { o.ReadTimeout = 10 * time.Second })
			var wait sync.WaitGroup
			for n := range byte(100) {
				wait.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, err := f.Standing(ctx, identity.UserID{n}, identity.SessionID{}, identity.CompanyID{})
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("err = %v", err)
					}
				})
				if n < 4 {
					time.Sleep(20 * time.Millisecond) //nolint:forbidigo // the bubble's clock
				}
			}
			start := time.Now()
			wait.Wait()
			if took := time.Since(start); took != time.Second {
				t.Errorf("callers waited %s", took)
			}
			time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
			if n := len(h.began); n != 4 {
				t.Errorf("%d reads, want the four that were under way", n)
			}
		})
	})
}

// Many goroutines, a database that changes, and the rule of the package: what is
// told before a lookup begins shows in its answer.
func TestNoStaleAnswerUnderLoad(t *testing.T) {
	const users = 4
	var versions, told [users]atomic.Int64
	f := newCache(t, storeFunc(func(_ context.Context, q []identity.Question) ([]identity.Standing, error) {
		out := make([]identity.Standing, len(q))
		for i := range q {
			out[i] = identity.Standing{Exists: true, TokensValidAfter: time.UnixMicro(versions[q[i].User[0]].Load()).UTC()}
		}
		return out, nil
	}))
	f.heard()
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for n := range 8 {
		wait.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				user := i % users
				least := told[user].Load()
				s, err := f.Standing(t.Context(), identity.UserID{byte(user)}, identity.SessionID{}, identity.CompanyID{})
				if err != nil {
					t.Error(err)
					return
				}
				if got := s.TokensValidAfter.UnixMicro(); got < least {
					t.Errorf("version %d, and %d was told before the lookup began", got, least)
					return
				}
			}
		})
	}
	for i := range 3000 {
		user := i % users
		now := time.Now()
		version := versions[user].Add(1)
		f.User(identity.UserID{byte(user)})
		told[user].Store(version)
		f.Alive(now)
	}
	// Changes that never end may leave nothing to remember.
	for deadline := time.Now().Add(10 * time.Second); f.metric("gatehouse_authz_cache_hits_total") == 0; {
		if time.Now().After(deadline) {
			t.Error("nothing came from memory")
			break
		}
	}
	close(stop)
	wait.Wait()
}

// Whoever asks has read the clock before, but not long before.
func TestMemoryIsAskedForTheTimeThatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newCache(t, &counting{answer: active})
		f.heard()
		f.Alive(time.Now())
		f.standing(1, 1, 1)
		for _, c := range []struct {
			name string
			ago  time.Duration
			want bool
		}{
			{"now", 0, true},
			{"a moment ago", time.Millisecond, true},
			{"as long before the last proof as it holds", time.Second, false},
			{"an hour ago", time.Hour, false},
			{"when the proof holds no longer", -time.Second, false},
		} {
			_, known := f.Peek(identity.UserID{1}, identity.SessionID{1}, identity.CompanyID{1}, time.Now().Add(-c.ago))
			if known != c.want {
				t.Errorf("%s: known %t, want %t", c.name, known, c.want)
			}
		}
	})
}

func TestWhatIsCountedAndLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newCache(t, &counting{answer: active})
		live := func() float64 { return f.metric("gatehouse_authz_revocation_listener_live") }
		if live() != 0 {
			t.Error("live before anybody was heard")
		}
		f.Lost("connecting: refused")
		f.Lost("connecting: refused")
		f.heard()
		f.Alive(time.Now())
		if live() != 1 {
			t.Error("not live while changes are heard")
		}
		f.standing(1, 1, 1)
		f.standing(1, 1, 1)
		f.User(identity.UserID{1})
		f.Session(identity.SessionID{1})
		f.Company(identity.CompanyID{1})
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		if live() != 0 {
			t.Error("live a second after the last proof")
		}
		f.Lost("the connection broke")
		f.Lost("connecting: refused")
		f.heard()
		for name, want := range map[string]float64{
			"gatehouse_authz_cache_hits_total":            1,
			"gatehouse_authz_cache_misses_total":          1,
			"gatehouse_authz_cache_entries":               1,
			"gatehouse_authz_cache_evictions_total":       0,
			"gatehouse_authz_cache_invalidations_total":   5,
			"gatehouse_authz_revocation_reconnects_total": 1,
			"gatehouse_authz_revocation_lag_seconds":      3,
		} {
			if got := f.metric(name); got != want {
				t.Errorf("%s = %v, want %v", name, got, want)
			}
		}
		if got := f.metric("gatehouse_authz_cache_bytes"); got < 200 || got > 1<<20 {
			t.Errorf("gatehouse_authz_cache_bytes = %v", got)
		}
		want := strings.Join([]string{
			`level=WARN msg="revocations are not heard: checks read PostgreSQL" reason="connecting: refused"`,
			`level=INFO msg="revocations are heard: checks are answered from memory"`,
			`level=WARN msg="revocations are not heard: checks read PostgreSQL" reason="the connection broke"`,
			`level=WARN msg="revocations are not heard: checks read PostgreSQL" reason="connecting: refused"`,
			`level=INFO msg="revocations are heard: checks are answered from memory"`, "",
		}, "\n")
		if diff := cmp.Diff(want, f.log.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	good := activity.Options{Store: &counting{}, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)}
	for name, change := range map[string]func(*activity.Options){
		"no store":                 func(o *activity.Options) { o.Store = nil },
		"no registry":              func(o *activity.Options) { o.Registerer = nil },
		"no logger":                func(o *activity.Options) { o.Logger = nil },
		"too little memory":        func(o *activity.Options) { o.Bytes = 1<<20 - 1 },
		"negative memory":          func(o *activity.Options) { o.Bytes = -1 },
		"a negative proof of life": func(o *activity.Options) { o.ProofOfLife = -1 },
		"a negative read time-out": func(o *activity.Options) { o.ReadTimeout = -1 },
		"metrics that exist already": func(o *activity.Options) {
			o.Registerer = prometheus.NewRegistry()
			if _, err := activity.New(*o); err != nil {
				t.Fatal(err)
			}
		},
	} {
		o := good
		change(&o)
		if _, err := activity.New(o); err == nil {
			t.Errorf("%s: taken", fmt.Sprint(name))
		}
	}
}
