package activity

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
)

// What memory gives back is what was last put under that key or nothing, its
// figures are true, and it never uses more than its room.
func TestMemoryIsAMapThatMayForgetAndNeverGrowsPastItsRoom(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	m := newMemory(leastBytes)
	put := map[key]entry{}
	found, evicted := 0, 0
	for n := range 200_000 {
		var k key
		k[random.IntN(len(k))] = byte(random.IntN(200))
		// Few hashes, so that many keys meet on one place of the index.
		hash := uint64(k[0]+k[20]+k[40])<<32 | uint64(k[1])<<3
		if random.IntN(3) == 0 {
			e := entry{key: k, read: int64(n), email: strings.Repeat("x", random.IntN(2000))}
			if random.IntN(50) == 0 {
				e.memberships = make([]identity.Membership, random.IntN(4000)) // some are bigger than a shard
			}
			if n > 100_000 {
				e.flush = 1
			}
			evicted += m.put(hash, &e)
			put[k] = e
		}
		var got entry
		if m.get(hash, &k, &got) {
			found++
			want := put[k]
			if got.read != want.read || got.email != want.email || len(got.memberships) != len(want.memberships) || got.key != k {
				t.Fatalf("step %d: got the entry of step %d, want that of %d", n, got.read, want.read)
			}
		}
	}
	if found < 10_000 || evicted < 1000 {
		t.Errorf("%d found and %d evicted: the test hardly tries", found, evicted)
	}
	for i := range m.shards {
		s := &m.shards[i]
		var bytes int64
		held := 0
		for _, c := range s.chunks {
			for j := range c {
				if c[j].held {
					held++
					bytes += c[j].bytes()
				}
			}
		}
		bytes += int64(len(s.chunks))*chunkBytes + int64(len(s.index))*indexEntry
		if s.bytes > s.room || s.bytes != bytes || s.count != held || len(s.free)+held != len(s.chunks)*chunkLength {
			t.Errorf("shard %d: %d bytes of %d, counted %d; %d entries, counted %d", i, s.bytes, s.room, bytes, s.count, held)
		}
	}
}

func TestWhatIsAskedForStaysInMemoryLongest(t *testing.T) {
	t.Parallel()
	m := newMemory(leastBytes)
	var hot key
	hot[0] = 1
	m.put(0, &entry{key: hot})
	evicted := 0
	for n := range 20_000 {
		var k key
		k[1], k[2], k[3] = byte(n), byte(n>>8), 1
		evicted += m.put(uint64(n%4096), &entry{key: k}) // all in one shard
		var e entry
		if !m.get(0, &hot, &e) {
			t.Fatalf("evicted after %d others, though it is asked for all the time", n)
		}
	}
	if evicted == 0 {
		t.Error("nothing was evicted")
	}
}

func FuzzAnEntryGivesBackWhatWasPacked(f *testing.F) {
	f.Add("ada@example.com", "admin", int64(1_700_000_000_000_000), int64(0), byte(31))
	f.Add("", "", int64(-62_135_596_799_999_999), int64(253_402_214_400_000_000), byte(0))
	f.Fuzz(func(t *testing.T, email, role string, a, b int64, facts byte) {
		const first, last = -62_135_596_799_999_999, 253_402_300_799_999_999 // years 1 to 9999, as the store gives
		a, b = max(first, min(a, last)), max(first, min(b, last))
		want := identity.Standing{
			Exists: facts&1 != 0, Active: facts&2 != 0, Suspended: facts&4 != 0, Email: email,
			TokensValidAfter: instant(a),
			Session:          identity.Session{Exists: facts&8 != 0, Ended: facts&16 != 0, AuthTime: instant(b), ValidFrom: instant(a), NotAfter: instant(b)},
		}
		if role != "" {
			want.Memberships = []identity.Membership{{Company: identity.CompanyID{facts}, Role: role, Suspended: facts&1 != 0}}
		}
		e, ok := entryOf(key{}, want)
		if !ok {
			t.Fatalf("refused: %+v", want)
		}
		if diff := cmp.Diff(want, e.standing()); diff != "" {
			t.Errorf("(-packed +given back):\n%s", diff)
		}
		want.TokensValidAfter = want.TokensValidAfter.Add(1) // a nanosecond
		if _, ok := entryOf(key{}, want); ok {
			t.Error("a time that cannot be given back was packed")
		}
	})
}
