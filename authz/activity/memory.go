package activity

import (
	"sync"
	"unsafe"
)

const (
	leastBytes = 1 << 20
	maxShards  = 256
	// leastShard keeps the room of one shard from being too small for an entry
	// with many memberships.
	leastShard = 64 << 10

	chunkLength = 128
	// with the place of each slot in free
	chunkBytes = int64(chunkLength * (unsafe.Sizeof(entry{}) + 4))
	firstIndex = 64
	indexEntry = 4 // bytes
)

// memory is the entries by key, in a bounded number of bytes. What is full loses
// an entry that was not asked for lately.
type memory struct{ shards []shard }

// shard is a hash table by linear probing over slots that never move.
type shard struct {
	mu     sync.Mutex
	room   int64 // bytes that it may use
	bytes  int64 // that it uses
	index  []uint32
	chunks []*[chunkLength]entry
	free   []uint32 // slots that are not in use
	count  int
	hand   uint32
	flush  uint32 // generation of everything in it
	_      [64]byte
}

func newMemory(bytes int64) *memory {
	shards := 1
	for shards < maxShards && bytes/int64(2*shards) >= leastShard {
		shards *= 2
	}
	m := &memory{shards: make([]shard, shards)}
	for i := range m.shards {
		m.shards[i].room = bytes / int64(shards)
	}
	return m
}

func (m *memory) shard(hash uint64) *shard {
	return &m.shards[(hash>>32)%uint64(len(m.shards))]
}

// get copies an entry, and marks it as asked for.
func (m *memory) get(hash uint64, k *key, to *entry) bool {
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.find(uint32(hash), k)
	if !found {
		return false
	}
	e := s.slot(s.index[at] - 1)
	e.used = true
	*to = *e
	return true
}

// put keeps an entry in the place of an older one with its key, and says how many
// others had to go. An entry that is too big for its shard is not kept.
func (m *memory) put(hash uint64, e *entry) (evicted int) {
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.hash, e.held, e.used = uint32(hash), true, false
	if s.flush != e.flush {
		s.empty() // all of it is worthless, and what it holds may be much
		s.flush = e.flush
	}
	if at, found := s.find(e.hash, &e.key); found {
		s.remove(at)
	}
	for s.bytes+s.need(e) > s.room {
		if s.count == 0 {
			if s.bytes == 0 {
				return evicted
			}
			s.empty() // the slots themselves take too much
			continue
		}
		s.evict()
		evicted++
	}
	s.insert(e)
	return evicted
}

// drop forgets the entry with a key.
func (m *memory) drop(hash uint64, k *key) {
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, found := s.find(uint32(hash), k); found {
		s.remove(at)
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

func (s *shard) slot(n uint32) *entry { return &s.chunks[n/chunkLength][n%chunkLength] }

func (s *shard) empty() {
	s.index, s.chunks, s.free, s.count, s.hand, s.bytes = nil, nil, nil, 0, 0, 0
}

// find gives the place in the index of a key, or the free one where it would be.
func (s *shard) find(hash uint32, k *key) (at uint32, found bool) {
	if len(s.index) == 0 {
		return 0, false
	}
	mask := uint32(len(s.index) - 1)
	for at = hash & mask; s.index[at] != 0; at = (at + 1) & mask {
		if e := s.slot(s.index[at] - 1); e.hash == hash && e.key == *k {
			return at, true
		}
	}
	return at, false
}

// need is by how much bytes grows with e.
func (s *shard) need(e *entry) int64 {
	need := e.bytes()
	if len(s.free) == 0 {
		need += chunkBytes
	}
	if s.crowded() {
		need += int64(max(firstIndex, len(s.index))) * indexEntry
	}
	return need
}

// crowded reports that one more would fill the index by more than three quarters.
func (s *shard) crowded() bool { return 4*(s.count+1) > 3*len(s.index) }

func (s *shard) insert(e *entry) {
	if s.crowded() {
		s.widen()
	}
	if len(s.free) == 0 {
		first := uint32(len(s.chunks) * chunkLength)
		s.chunks = append(s.chunks, new([chunkLength]entry))
		for n := first + chunkLength; n > first; n-- {
			s.free = append(s.free, n-1)
		}
		s.bytes += chunkBytes
	}
	n := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	at, _ := s.find(e.hash, &e.key)
	s.index[at] = n + 1
	*s.slot(n) = *e
	s.count++
	s.bytes += e.bytes()
}

func (s *shard) widen() {
	old := s.index
	s.index = make([]uint32, max(firstIndex, 2*len(old)))
	s.bytes += int64(len(s.index)-len(old)) * indexEntry
	mask := uint32(len(s.index) - 1)
	for _, n := range old {
		if n == 0 {
			continue
		}
		at := s.slot(n-1).hash & mask
		for s.index[at] != 0 {
			at = (at + 1) & mask
		}
		s.index[at] = n
	}
}

// remove takes an entry out, and moves up those that its place had pushed on.
func (s *shard) remove(at uint32) {
	n := s.index[at] - 1
	e := s.slot(n)
	s.bytes -= e.bytes()
	s.count--
	*e = entry{}
	s.free = append(s.free, n)

	mask := uint32(len(s.index) - 1)
	hole := at
	for next := (at + 1) & mask; s.index[next] != 0; next = (next + 1) & mask {
		home := s.slot(s.index[next]-1).hash & mask
		if (next-home)&mask >= (next-hole)&mask { // it may stand in the hole
			s.index[hole] = s.index[next]
			hole = next
		}
	}
	s.index[hole] = 0
}

// evict removes an entry that was not asked for since the hand last passed it.
// There is one: the hand clears as it goes.
func (s *shard) evict() {
	for {
		e := s.slot(s.hand)
		s.hand = (s.hand + 1) % uint32(len(s.chunks)*chunkLength)
		switch {
		case !e.held:
		case e.used:
			e.used = false
		default:
			at, _ := s.find(e.hash, &e.key)
			s.remove(at)
			return
		}
	}
}
