package verified

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/atenex/gatehouse/internal/identity"
)

const (
	leastBytes = 1 << 20
	maxShards  = 64
	leastShard = 64 << 10
	// bytesPerChain is a little more than the room that most tokens need, so that
	// a chain has about one of them.
	bytesPerChain = 1 << 10

	pointerBytes = int64(unsafe.Sizeof(uintptr(0)))
	entryBytes   = int64(unsafe.Sizeof(entry{}))
	stringBytes  = int64(unsafe.Sizeof(""))
)

// entry is one token, and what was said of it. Once it stands in its chain, what
// readers see of it changes no more, but for the two atomics.
type entry struct {
	token      string
	hash       uint64
	credential identity.Credential
	// from and until have no monotonic reading: every comparison with them is by
	// the wall clock, which is what tokens are judged by. The monotonic one stands
	// still while a machine is suspended, and would let a token outlive its end;
	// it does not go back when the wall clock is set back, before a token's start.
	from, until time.Time

	used  atomic.Bool           // since it last came to the front of the queue
	chain atomic.Pointer[entry] // the next in its chain; still so when it was removed

	next, before *entry // in the queue
}

// flaw plants a bug. Tests do, to see that they would find it.
type flaw int

const (
	flawNone      flaw = iota
	flawNoFence        // keeps what was said before all was forgotten
	flawNoStart        // answers for times before the verification too
	flawNoEnd          // answers for times after the token's end too
	flawMonotonic      // measures by the monotonic clock
	flawHashOnly       // takes tokens with one hash for the same
	flawAlias          // keeps the caller's strings
)

// memory is the entries by token, in a bounded number of bytes. What is full
// loses an entry that has ended or was not asked for lately.
type memory struct {
	shards []shard // a power of two of them, as of chains
	flaw   flaw
}

// shard is a hash table with chains, whose number never changes, and a queue of
// all entries for eviction. It is read without the lock.
type shard struct {
	generation atomic.Uint64 // how often all was forgotten; written under the lock
	chains     []atomic.Pointer[entry]

	mu    sync.Mutex
	room  int64 // bytes that it may use
	bytes int64 // that it uses
	count int
	queue entry // next is the front, before is the back; itself no entry
	_     [64]byte
}

func newMemory(bytes int64) *memory {
	shards := int64(1)
	for shards < maxShards && bytes/(2*shards) >= leastShard {
		shards *= 2
	}
	room := bytes / shards
	chains := 1
	for int64(2*chains)*bytesPerChain <= room {
		chains *= 2
	}
	m := &memory{shards: make([]shard, shards)}
	for i := range m.shards {
		s := &m.shards[i]
		s.room, s.chains = room, make([]atomic.Pointer[entry], chains)
		s.empty()
	}
	return m
}

func (m *memory) shard(hash uint64) *shard {
	return &m.shards[hash>>32&uint64(len(m.shards)-1)]
}

// get copies what holds of a token at now. The generation is for put, if nothing
// does: it was read before anything else.
func (m *memory) get(hash uint64, raw string, now time.Time, to *identity.Credential) (generation uint64, found bool) {
	s := m.shard(hash)
	generation = s.generation.Load()
	e := m.find(s, hash, raw)
	if e == nil ||
		now.Before(e.from) && m.flaw != flawNoStart ||
		!now.Before(e.until) && m.flaw != flawNoEnd {
		return generation, false
	}
	if !e.used.Load() { // or all who have this token would write to one place
		e.used.Store(true)
	}
	*to = e.credential
	return generation, true
}

// put keeps what was said of a token for now, unless all was forgotten since get,
// and says how many others had to go. What has no end, or is past it and accepted
// only within the verifier's leeway, is not kept; nor is what is too big.
func (m *memory) put(hash uint64, raw string, now time.Time, generation uint64, said *identity.Credential) (evicted int) {
	until := said.ExpiresAt.Round(0)
	if until.IsZero() || !now.Before(until) && m.flaw != flawNoEnd {
		return 0
	}
	e := &entry{token: strings.Clone(raw), hash: hash, credential: *said, from: now.Round(0), until: until}
	e.credential.Email = strings.Clone(said.Email)
	e.credential.Roles = slices.Clip(slices.Clone(said.Roles))
	for i, role := range e.credential.Roles {
		e.credential.Roles[i] = strings.Clone(role)
	}
	if m.flaw == flawMonotonic {
		e.from, e.until = now, now.Add(until.Sub(now))
	}
	if m.flaw == flawAlias {
		e.token, e.credential = raw, *said
	}

	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation.Load() != generation && m.flaw != flawNoFence {
		return 0
	}
	if old := m.find(s, hash, raw); old != nil {
		s.remove(old)
	}
	need := e.bytes()
	for s.bytes+need > s.room {
		if s.count == 0 {
			return evicted
		}
		s.evict(now)
		evicted++
	}
	s.insert(e, need)
	return evicted
}

// forget empties one shard after another. A token always meets the same one, and
// its generation alone decides over a put.
func (m *memory) forget() {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		s.generation.Add(1)
		s.empty()
		s.mu.Unlock()
	}
}

// figures are the number of entries and the bytes that are used.
func (m *memory) figures() (entries int, bytes int64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		entries += s.count
		bytes += s.bytes
		s.mu.Unlock()
	}
	return entries, bytes
}

func (m *memory) find(s *shard, hash uint64, raw string) *entry {
	e := s.place(hash).Load()
	for e != nil && (e.hash != hash || e.token != raw && m.flaw != flawHashOnly) {
		e = e.chain.Load()
	}
	return e
}

// place is where the first entry of a hash's chain is held.
func (s *shard) place(hash uint64) *atomic.Pointer[entry] {
	return &s.chains[hash&uint64(len(s.chains)-1)]
}

func (s *shard) empty() {
	for i := range s.chains {
		s.chains[i].Store(nil)
	}
	s.queue.next, s.queue.before = &s.queue, &s.queue
	s.count = 0
	s.bytes = int64(unsafe.Sizeof(*s)) + int64(len(s.chains))*pointerBytes
}

func (s *shard) insert(e *entry, bytes int64) {
	first := s.place(e.hash)
	e.chain.Store(first.Load())
	first.Store(e)
	s.enqueue(e)
	s.count++
	s.bytes += bytes
}

func (s *shard) remove(e *entry) {
	link := s.place(e.hash)
	for link.Load() != e {
		link = &link.Load().chain
	}
	link.Store(e.chain.Load())
	s.dequeue(e)
	s.count--
	s.bytes -= e.bytes()
}

// evict removes the entry that has been in the queue for longest, but gives those
// that were asked for meanwhile another round. Those that have ended get none.
func (s *shard) evict(now time.Time) {
	for {
		e := s.queue.next
		if !e.used.Load() || !now.Before(e.until) {
			s.remove(e)
			return
		}
		e.used.Store(false)
		s.dequeue(e)
		s.enqueue(e)
	}
}

func (s *shard) enqueue(e *entry) {
	e.next, e.before = &s.queue, s.queue.before
	e.before.next, e.next.before = e, e
}

func (s *shard) dequeue(e *entry) { e.before.next, e.next.before = e.next, e.before }

// bytes is what an entry costs.
func (e *entry) bytes() int64 {
	sum := allocated(entryBytes) + allocated(int64(len(e.token))) + allocated(int64(len(e.credential.Email))) +
		allocated(int64(len(e.credential.Roles))*stringBytes)
	for _, role := range e.credential.Roles {
		sum += allocated(int64(len(role)))
	}
	return sum
}

// allocated is what the allocator takes for n bytes, at most: it has sizes an
// eighth apart, and pages for what is large.
func allocated(n int64) int64 {
	const grain, large, page = 16, 32 << 10, 8 << 10
	switch {
	case n <= 256:
		return (n + grain - 1) / grain * grain
	case n <= large:
		return (n + n/8 + grain - 1) / grain * grain
	default:
		return (n + page - 1) / page * page
	}
}
