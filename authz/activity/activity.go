// Package activity remembers what is true of users, so that a check need not ask
// the database, and forgets it the moment somebody says that it changed.
//
// Memory is used only while two things hold. Changes are heard: whoever feeds
// the cache (see Sink) has proved within the proof of life that every change
// until then was told. And the answer is not older than the last notice about
// its user, session or company: what a read brings home is remembered under the
// generations that were current before the read began, so that a notice that
// comes while it is under way makes it worthless (the fence). In every other
// case the store is asked, by a read that begins after the caller came.
//
// It must never know where changes are heard from, what a token is, or whether
// a user may pass; it says what Store said.
package activity

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/atenex/gatehouse/internal/identity"
)

// Store says what the database says now. It answers all questions of a call as
// of one moment that lies after its beginning, in their order, and gives up when
// ctx ends.
type Store interface {
	Standings(ctx context.Context, questions []identity.Question) ([]identity.Standing, error)
}

// Sink is how a feed tells of changes; a Cache is one. A call has taken effect
// when it returns: no lookup that begins later is answered with what was before.
// After a change that was not told, a feed calls Lost, and Flush before the next
// Alive. Calls may come from any goroutine, but those of one feed in their order.
type Sink interface {
	// User says that a user's row or memberships are not what they were.
	User(identity.UserID)
	// Session says so of a session.
	Session(identity.SessionID)
	// Company says so of a company.
	Company(identity.CompanyID)
	// Flush says so of everything.
	Flush()
	// Alive says that every change committed before at has been told. It is the
	// time at which the proof was asked for, not that at which it came.
	Alive(at time.Time)
	// Lost says that changes are not heard until the next Alive. The reason is for
	// the log, which has it once for as long as it stays the same.
	Lost(reason string)
}

var _ Sink = (*Cache)(nil)

const (
	// DefaultBytes hold a million users with an address and a company each.
	DefaultBytes = 256 << 20
	// DefaultProofOfLife is how long memory is trusted after the last proof that
	// changes are heard.
	DefaultProofOfLife = time.Second
	// DefaultReadTimeout bounds one read of the store.
	DefaultReadTimeout = 1500 * time.Millisecond

	// lifetime ends what is remembered even if nobody says that it changed.
	lifetime = 30 * time.Second
	// absence is how long it is remembered that a user does not exist.
	absence = time.Second
)

// Options are the choices of a Cache. Store, Registerer and Logger are needed.
type Options struct {
	Store Store
	// Bytes bounds what is remembered, and the memory that is spent on it; zero:
	// DefaultBytes; at least 1 MiB.
	Bytes int64
	// ProofOfLife is how long memory is trusted after the time of the last Alive;
	// zero: DefaultProofOfLife. Longer than that, and every lookup asks the store.
	ProofOfLife time.Duration
	// ReadTimeout bounds one read; zero: DefaultReadTimeout.
	ReadTimeout time.Duration

	Registerer prometheus.Registerer
	Logger     *slog.Logger
	Clock      func() time.Time // nil: time.Now; the times given to Alive are of the same clock
}

// Cache answers from memory or from its store. It may be used by any number of
// goroutines; it has one only while a read is under way.
type Cache struct {
	store       Store
	proofOfLife time.Duration
	readTimeout time.Duration
	now         func() moment
	since       func(time.Time) moment

	seed        maphash.Seed
	generations *generations
	memory      *memory
	reads       reads
	proof       proof
	observer    *observer

	spawn func(func()) // go, but for tests
	flaw  flaw
}

// flaw plants a bug. Tests do, to see that they would find it.
type flaw int

const (
	flawNone    flaw = iota
	flawNoFence      // remembers a read under the generations that are current after it
	flawNoProof      // uses memory though changes may not be heard
	flawNoFlush      // keeps what was read before a connection
	flawOverlap      // reads a question while another read of it is under way
)

// moment is a time on both clocks of a machine. The monotonic one stands still
// while the machine is suspended, and the wall clock may be set back; what has to
// be young must be so by both.
type moment struct{ mono, wall int64 } // nanoseconds

func (m moment) after(earlier moment) time.Duration {
	return time.Duration(max(m.mono-earlier.mono, m.wall-earlier.wall))
}

// New makes an empty cache and registers its metrics.
func New(o Options) (*Cache, error) {
	switch {
	case o.Store == nil:
		return nil, errors.New("a cache needs a store")
	case o.Registerer == nil || o.Logger == nil:
		return nil, errors.New("a cache needs a metrics registry and a logger")
	case o.ProofOfLife < 0 || o.ReadTimeout < 0:
		return nil, errors.New("a cache with a negative time-out")
	}
	if o.Bytes == 0 {
		o.Bytes = DefaultBytes
	}
	if o.Bytes < leastBytes {
		return nil, errors.New("a cache of less than 1 MiB")
	}
	if o.ProofOfLife == 0 {
		o.ProofOfLife = DefaultProofOfLife
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = DefaultReadTimeout
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	start := o.Clock()
	c := &Cache{
		store:       o.Store,
		proofOfLife: o.ProofOfLife,
		readTimeout: o.ReadTimeout,
		since:       func(t time.Time) moment { return moment{mono: int64(t.Sub(start)), wall: t.UnixNano()} },
		seed:        maphash.MakeSeed(),
		generations: &generations{},
		memory:      newMemory(o.Bytes),
		spawn:       func(f func()) { go f() },
	}
	c.now = func() moment { return c.since(o.Clock()) }
	c.reads.waiting, c.reads.flying = map[key]*flight{}, map[key]bool{}
	c.proof.lose()
	var err error
	if c.observer, err = newObserver(o.Registerer, o.Logger, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Standing says what is true of a user, of one of its sessions and of the company
// that it acts for (zero: not asked about): from memory, else from the store. The
// memberships it returns are shared and must not be changed.
func (c *Cache) Standing(ctx context.Context, user identity.UserID, session identity.SessionID, company identity.CompanyID) (identity.Standing, error) {
	if s, known := c.peek(user, session, company, c.now()); known {
		return s, nil
	}
	c.observer.misses.Inc()
	f := c.ask(trace.SpanContextFromContext(ctx), identity.Question{User: user, Session: session, Company: company})
	select {
	case <-f.done:
		return f.standing, f.err
	case <-ctx.Done():
		c.leave(f)
		return identity.Standing{}, ctx.Err()
	}
}

// Peek is Standing for what is in memory alone. It does not wait and allocates
// nothing. now is a time of Options.Clock, a moment ago at most: whoever has just read
// that clock need not pay for it again.
func (c *Cache) Peek(user identity.UserID, session identity.SessionID, company identity.CompanyID, now time.Time) (identity.Standing, bool) {
	return c.peek(user, session, company, c.since(now))
}

func (c *Cache) peek(user identity.UserID, session identity.SessionID, company identity.CompanyID, now moment) (identity.Standing, bool) {
	if !c.live(now) {
		return identity.Standing{}, false
	}
	k := keyOf(identity.Question{User: user, Session: session, Company: company})
	var e entry
	if !c.memory.get(maphash.Bytes(c.seed, k[:]), &k, &e) || !c.holds(&e, user, session, company, now) {
		return identity.Standing{}, false
	}
	c.observer.hits.Inc()
	return e.standing(), true
}

// holds reports that nothing was said about e since before it was read, and that
// it is young.
func (c *Cache) holds(e *entry, user identity.UserID, session identity.SessionID, company identity.CompanyID, now moment) bool {
	limit := lifetime
	if e.facts&factExists == 0 {
		limit = absence
	}
	others := e.memberships
	if e.facts&factNoOther != 0 {
		others = nil // spares a walk through memory that is cold more often than not
	}
	return time.Duration(now.mono-e.read) < limit &&
		e.flush == c.generations.flush.Load() &&
		e.user == c.userGeneration(user) &&
		e.session == c.sessionGeneration(session) &&
		e.company == c.companyGenerations(company, others)
}

// live reports that changes are heard at now. A time far before the last proof is
// none that memory can speak of.
func (c *Cache) live(now moment) bool {
	age := now.after(c.proof.at())
	return c.flaw == flawNoProof || -c.proofOfLife < age && age < c.proofOfLife
}

// proof is when it was last proved that changes are heard.
type proof struct{ mono, wall atomic.Int64 }

// never lies so far back that no proof of life is that long, and not so far that
// a difference overflows.
const never = -1 << 62

func (p *proof) lose() { p.set(moment{mono: never, wall: never}) }

// set writes two words; whoever reads in between sees the older time of one
// clock, and that one counts.
func (p *proof) set(at moment) {
	p.mono.Store(at.mono)
	p.wall.Store(at.wall)
}

func (p *proof) at() moment { return moment{mono: p.mono.Load(), wall: p.wall.Load()} }
