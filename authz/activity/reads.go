package activity

import (
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/atenex/gatehouse/internal/identity"
)

const (
	// One read is under way at a time, and what is asked meanwhile goes into the next:
	// a statement for ten questions costs the database little more than one for one.
	// Others begin beside it while it is slow, or when there is a batch to fill.
	maxReads  = 4
	maxBatch  = 256
	goodBatch = 64
	// patience is when a read is slow. One takes about a millisecond.
	patience = 10 * time.Millisecond
)

// flight is one question on its way to the store, and everybody who waits for the
// answer. Nobody joins once its read has begun: the answer is as of a moment
// after the last of them came.
type flight struct {
	key      key
	question identity.Question
	waiters  int           // guarded by reads.mu
	queued   *list.Element // guarded by reads.mu; nil: its read has begun

	// span is that of the first who asked and is traced, guarded by reads.mu until
	// the read has begun.
	span trace.SpanContext

	before mark

	done     chan struct{} // closed once the two below are set
	standing identity.Standing
	err      error
}

// reads are the questions that wait for a read, each once.
type reads struct {
	mu      sync.Mutex
	waiting map[key]*flight
	flying  map[key]bool // those whose read is under way
	queue   list.List    // of *flight, the oldest first
	running int
	slow    int // of those that are running
}

// ask joins the question's flight that waits, or makes one.
func (c *Cache) ask(of trace.SpanContext, q identity.Question) *flight {
	k := keyOf(q)
	r := &c.reads
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.waiting[k]
	if f == nil {
		f = &flight{key: k, question: q, done: make(chan struct{})}
		f.queued = r.queue.PushBack(f)
		r.waiting[k] = f
	}
	f.waiters++
	if of.IsSampled() && !f.span.IsValid() {
		f.span = of
	}
	c.hire()
	return f
}

// hire starts another reader if there is work that waits for one. It is called under
// reads.mu.
func (c *Cache) hire() {
	r := &c.reads
	waits := r.queue.Len() > 0 && r.running <= r.slow || r.queue.Len() >= goodBatch
	if waits && r.running < maxReads {
		r.running++
		c.spawn(c.read)
	}
}

// fallBehind is told of a read that is slow, and catchUp when it is over.
func (c *Cache) fallBehind() {
	c.reads.mu.Lock()
	defer c.reads.mu.Unlock()
	c.reads.slow++
	c.hire()
}

func (c *Cache) catchUp() {
	c.reads.mu.Lock()
	defer c.reads.mu.Unlock()
	c.reads.slow--
}

// leave is for a caller that waits no longer. A question that nobody waits for is
// not asked, so that no queue grows while the store is silent.
func (c *Cache) leave(f *flight) {
	r := &c.reads
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiters--; f.waiters == 0 && f.queued != nil {
		r.queue.Remove(f.queued)
		f.queued = nil
		delete(r.waiting, f.key)
	}
}

// read works until nobody waits.
func (c *Cache) read() {
	for {
		batch := c.begin()
		if batch == nil {
			return
		}
		answers, err := c.query(batch)
		c.settle(batch, answers, err)
	}
}

// begin takes the questions of the next read, and ends this reader if there are
// none. No question is read twice at a time: of two such answers nobody could tell
// which is the newer one, and so which may be remembered.
func (c *Cache) begin() []*flight {
	r := &c.reads
	r.mu.Lock()
	batch := make([]*flight, 0, min(r.queue.Len(), maxBatch))
	for at := r.queue.Front(); at != nil && len(batch) < maxBatch; {
		f, _ := at.Value.(*flight)
		at = at.Next()
		if r.flying[f.key] && c.flaw != flawOverlap {
			continue // the reader that has it will be back
		}
		r.queue.Remove(f.queued)
		f.queued = nil
		delete(r.waiting, f.key)
		r.flying[f.key] = true
		batch = append(batch, f)
	}
	if len(batch) == 0 {
		r.running--
		batch = nil
	}
	r.mu.Unlock()

	now := c.now()
	for _, f := range batch {
		f.before = c.mark(f.question, now)
	}
	return batch
}

// query asks the store. A panic in there is this read's, not the process's.
func (c *Cache) query(batch []*flight) (answers []identity.Standing, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = fmt.Errorf("panic in the store: %v", thrown)
		}
	}()
	questions := make([]identity.Question, len(batch))
	for i, f := range batch {
		questions[i] = f.question
	}
	// Not a caller's context: others wait for the same read.
	ctx, cancel := context.WithTimeout(context.Background(), c.readTimeout)
	defer cancel()
	// One statement for several is told in the trace of the first of them.
	if i := slices.IndexFunc(batch, func(f *flight) bool { return f.span.IsValid() }); i >= 0 {
		ctx = trace.ContextWithSpanContext(ctx, batch[i].span)
	}
	slow := time.AfterFunc(patience, c.fallBehind)
	defer func() {
		if !slow.Stop() {
			c.catchUp()
		}
	}()
	answers, err = c.store.Standings(ctx, questions)
	if err == nil && len(answers) != len(questions) {
		err = fmt.Errorf("the store gave %d answers to %d questions", len(answers), len(questions))
	}
	return answers, err
}

// settle remembers and hands out what a read brought.
func (c *Cache) settle(batch []*flight, answers []identity.Standing, err error) {
	now := c.now()
	for i, f := range batch {
		if f.err = err; err == nil {
			f.standing = answers[i]
		}
		c.land(f, now)
		close(f.done)
	}
}

// land lets memory say what a read brought, and only then others read the same.
func (c *Cache) land(f *flight, now moment) {
	if f.err == nil {
		c.remember(f, now)
	}
	r := &c.reads
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flying, f.key)
}

// remember keeps an answer, or nothing: what memory said before may be older than
// what the callers are told now.
func (c *Cache) remember(f *flight, now moment) {
	hash := maphash.Bytes(c.seed, f.key[:])
	if e, ok := c.entry(f, now); ok {
		c.observer.evictions.Add(float64(c.memory.put(hash, &e)))
		return
	}
	c.memory.drop(hash, &f.key)
}

// entry is what may be remembered of an answer: nothing if something was said about
// it while it was read.
func (c *Cache) entry(f *flight, now moment) (e entry, ok bool) {
	q, s := f.question, f.standing
	if s.Exists && !q.Session.IsZero() && !s.Session.Exists {
		return e, false // nothing tells of a new session
	}
	if !c.live(now) {
		return e, false // nobody could use it
	}
	if e, ok = entryOf(f.key, s); !ok {
		return e, false
	}
	before := f.before
	if c.flaw == flawNoFence {
		before = c.mark(q, now)
	}
	e.read = before.at.mono
	e.flush, e.user, e.session = before.flush, before.user, before.session
	// The sum is that of before the read if no company was spoken of since.
	e.company = c.companyGenerations(q.Company, s.Memberships)
	return e, c.mark(q, before.at) == before
}
