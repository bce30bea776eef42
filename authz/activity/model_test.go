package activity

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/atenex/gatehouse/internal/identity"
)

// The model is a database whose every row has a version, a feed that tells of
// changes late and in order, and breaks, and a clock; one step at a time is drawn
// at random. Whatever the order of steps, an answer must never show what was
// before a change that the cache had been told of when the lookup began; one from
// the store shows at least what the database held then; and one from memory comes
// only while a proof of life is young, and shows at least what that proof vouched
// for. And whoever asks again is never shown less than what an answer to the same
// question has shown before.

// rows are the versions of everything, by a name such as "u1".
type rows map[string]int

func (r rows) clone() rows {
	out := make(rows, len(r))
	for k, v := range r {
		out[k] = v
	}
	return out
}

// notice is something on its way to the cache.
type notice struct {
	row     string // changed; empty: a heartbeat
	version int
	sent    moment
	knew    rows // what was committed when the heartbeat was sent
	first   bool // heartbeat of a connection
}

type lookup struct {
	flight   *flight
	question identity.Question
	began    rows // what the database held
	shown    rows // what earlier answers to the question showed
}

type reader struct {
	batch   []*flight
	answers []identity.Standing
	slow    bool
}

type world struct {
	random *rand.Rand
	cache  *Cache
	clock  moment

	db   rows
	told rows

	connected bool
	lostTold  bool
	queue     []notice

	proof   moment
	vouched rows // nil: no proof

	lookups []lookup
	readers []*reader
	shown   map[identity.Question]rows

	hits, reads, fenced int
	fault               string
}

func newWorld(t testing.TB, seed uint64, planted flaw) *world {
	t.Helper()
	w := &world{random: rand.New(rand.NewPCG(seed, 7)), db: rows{}, told: rows{}, shown: map[identity.Question]rows{}, lostTold: true}
	c, err := New(Options{
		Store:      storeFunc(nil),
		Registerer: prometheus.NewRegistry(),
		Logger:     slog.New(slog.DiscardHandler),
		Clock:      func() time.Time { return time.Time{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.flaw = planted
	c.now = func() moment { return w.clock }
	c.since = func(at time.Time) moment { mono := int64(at.Sub(time.Time{})); return moment{mono: mono, wall: mono} }
	c.spawn = func(func()) { w.readers = append(w.readers, &reader{}) }
	w.cache = c
	return w
}

type storeFunc func(context.Context, []identity.Question) ([]identity.Standing, error)

func (f storeFunc) Standings(ctx context.Context, q []identity.Question) ([]identity.Standing, error) {
	return f(ctx, q)
}

func (w *world) question() identity.Question {
	var q identity.Question
	q.User[0] = byte(1 + w.random.IntN(2))
	q.Session[0] = byte(w.random.IntN(3))
	q.Company[0] = byte(w.random.IntN(3))
	return q
}

// other is a company that the second user belongs to, though nobody asks about it.
const other = 9

// answer spells the versions of all rows that it rests on.
func (w *world) answer(q identity.Question) identity.Standing {
	company := func(n byte) identity.Membership {
		return identity.Membership{Company: identity.CompanyID{n}, Role: strconv.Itoa(w.db[fmt.Sprintf("c%d", n)])}
	}
	s := identity.Standing{Exists: true, Email: strconv.Itoa(w.db[fmt.Sprintf("u%d", q.User[0])])}
	if q.User[0] == 2 {
		s.Memberships = append(s.Memberships, company(other))
	}
	if !q.Session.IsZero() {
		s.Session = identity.Session{Exists: true, ValidFrom: time.UnixMicro(int64(w.db[fmt.Sprintf("s%d", q.Session[0])])).UTC()}
	}
	if !q.Company.IsZero() {
		s.Memberships = append(s.Memberships, company(q.Company[0]))
	}
	return s
}

// shows reads the versions back.
func shows(q identity.Question, s identity.Standing) rows {
	number := func(text string) int { n, _ := strconv.Atoi(text); return n }
	r := rows{fmt.Sprintf("u%d", q.User[0]): number(s.Email)}
	if !q.Session.IsZero() {
		r[fmt.Sprintf("s%d", q.Session[0])] = int(s.Session.ValidFrom.UnixMicro())
	}
	for _, m := range s.Memberships {
		r[fmt.Sprintf("c%d", m.Company[0])] = number(m.Role)
	}
	return r
}

func (w *world) blame(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf(format, args...)
	}
}

func (w *world) atLeast(what string, got, want rows) {
	for row, version := range got {
		if version < want[row] {
			w.blame("%s shows version %d of %s, and must show at least %d", what, version, row, want[row])
		}
	}
}

// show takes down what an answer showed.
func (w *world) show(q identity.Question, got rows) {
	shown := w.shown[q].clone()
	for row, version := range got {
		shown[row] = max(shown[row], version)
	}
	w.shown[q] = shown
}

func (w *world) look() {
	q := w.question()
	if s, known := w.cache.peek(q.User, q.Session, q.Company, w.cache.now()); known {
		w.hits++
		got := shows(q, s)
		w.atLeast("an answer from memory, after another,", got, w.shown[q])
		w.show(q, got)
		switch {
		case w.vouched == nil:
			w.blame("memory was used though changes are not heard")
		case w.clock.after(w.proof) >= w.cache.proofOfLife:
			w.blame("memory was used %s after the last proof of life", w.clock.after(w.proof))
		default:
			w.atLeast("an answer from memory, told of the change,", got, w.told)
			w.atLeast("an answer from memory, vouched for,", got, w.vouched)
		}
		return
	}
	w.lookups = append(w.lookups, lookup{flight: w.cache.ask(trace.SpanContext{}, q), question: q, began: w.db.clone(), shown: w.shown[q]})
}

// read takes a reader one step on: it begins, sees the database, or comes home.
func (w *world) read() {
	if len(w.readers) == 0 {
		return
	}
	i := w.random.IntN(len(w.readers))
	switch r := w.readers[i]; {
	case r.batch == nil:
		if r.batch = w.cache.begin(); r.batch == nil {
			w.readers = append(w.readers[:i], w.readers[i+1:]...)
		}
	case !r.slow && w.random.IntN(3) == 0:
		r.slow = true
		w.cache.fallBehind()
	case r.answers == nil:
		for _, f := range r.batch {
			r.answers = append(r.answers, w.answer(f.question))
		}
	default:
		for _, f := range r.batch {
			if w.cache.mark(f.question, f.before.at) != f.before {
				w.fenced++
			}
		}
		if r.slow {
			w.cache.catchUp()
		}
		w.cache.settle(r.batch, r.answers, nil)
		w.readers[i] = &reader{}
		w.collect()
	}
}

func (w *world) collect() {
	var open []lookup
	for _, l := range w.lookups {
		select {
		case <-l.flight.done:
			w.reads++
			got := shows(l.question, l.flight.standing)
			w.atLeast("an answer from the store", got, l.began)
			w.atLeast("an answer from the store, after another,", got, l.shown)
			w.show(l.question, got)
		default:
			open = append(open, l)
		}
	}
	w.lookups = open
}

func (w *world) change() {
	names := []string{"u1", "u2", "s1", "s2", "c1", "c2", "c9"}
	row := names[w.random.IntN(len(names))]
	w.db[row]++
	if w.connected {
		w.queue = append(w.queue, notice{row: row, version: w.db[row]})
	}
}

func (w *world) deliver() {
	if len(w.queue) == 0 {
		return
	}
	n := w.queue[0]
	w.queue = w.queue[1:]
	if n.row == "" {
		if n.first {
			w.cache.Flush()
		}
		w.cache.Alive(time.Time{}.Add(time.Duration(n.sent.mono)))
		w.cache.proof.set(n.sent) // a time.Time made by hand carries one clock only
		w.proof, w.vouched = n.sent, n.knew
		return
	}
	switch id := n.row[1] - '0'; n.row[0] {
	case 'u':
		w.cache.User(identity.UserID{id})
	case 's':
		w.cache.Session(identity.SessionID{id})
	case 'c':
		w.cache.Company(identity.CompanyID{id})
	}
	w.told[n.row] = n.version
}

func (w *world) beat(first bool) {
	w.queue = append(w.queue, notice{sent: w.clock, knew: w.db.clone(), first: first})
}

func (w *world) step() {
	switch n := w.random.IntN(100); {
	case n < 30:
		w.look()
	case n < 60:
		w.read()
	case n < 70:
		w.change()
	case n < 85:
		w.deliver()
	case n < 91:
		if w.connected {
			w.beat(false)
		}
	case n < 97:
		passed := int64(w.random.IntN(int(200 * time.Millisecond)))
		w.clock.mono += passed
		w.clock.wall += passed
	case n < 98:
		w.clock.wall += int64(5 * time.Second) // the machine was suspended
	default:
		switch {
		case w.connected: // breaks, and nobody knows yet
			w.connected, w.lostTold, w.queue = false, false, nil
		case !w.lostTold:
			w.cache.Lost("the connection broke")
			w.lostTold, w.vouched = true, nil
		default:
			w.connected = true
			w.beat(true)
		}
	}
}

func (w *world) run(steps int) {
	// Every run begins connected and heard.
	w.connected = true
	w.beat(true)
	w.deliver()
	for range steps {
		w.step()
		if w.fault != "" {
			return
		}
	}
}

func TestNoInterleavingLetsAStaleAnswerThrough(t *testing.T) {
	t.Parallel()
	var hits, reads, fenced int
	for seed := range uint64(1000) {
		w := newWorld(t, seed, flawNone)
		w.run(300)
		if w.fault != "" {
			t.Fatalf("seed %d: %s", seed, w.fault)
		}
		hits, reads, fenced = hits+w.hits, reads+w.reads, fenced+w.fenced
	}
	if hits < 1000 || reads < 1000 || fenced < 1000 {
		t.Errorf("%d hits, %d reads and %d fenced reads: the model hardly tries", hits, reads, fenced)
	}
}

// The model is only worth something if it finds what it is there for.
func TestTheModelFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	for name, planted := range map[string]flaw{
		"without the fence":                        flawNoFence,
		"without the proof of life":                flawNoProof,
		"without forgetting at a lost connection":  flawNoFlush,
		"with two reads of one question at a time": flawOverlap,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(1000) {
				w := newWorld(t, seed, planted)
				if w.run(300); w.fault != "" {
					t.Logf("seed %d: %s", seed, w.fault)
					return
				}
			}
			t.Error("no run shows the bug")
		})
	}
}
