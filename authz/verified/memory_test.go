package verified

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/atenex/gatehouse/internal/identity"
)

// What memory gives back is what was last put under that token and holds then, or
// nothing; its figures are true, and it never uses more than its room.
func TestMemoryIsAMapThatMayForgetAndNeverGrowsPastItsRoom(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	m := newMemory(leastBytes)
	base := time.Unix(1_800_000_000, 0)
	put := map[string]identity.Credential{}
	found, evicted := 0, 0
	for n := range 30_000 {
		raw := fmt.Sprintf("%03d", random.IntN(600))
		raw += strings.Repeat("x", 7*len(raw)*int(raw[0]-'0')*int(raw[1]-'0'))
		if raw[2] == '7' {
			raw += strings.Repeat("y", 20_000) // some are long, or bigger than a shard
		}
		hash := uint64(raw[2])<<32 | uint64(raw[1]) // few, so that many tokens meet
		now := base.Add(time.Duration(random.IntN(100)) * time.Second)
		var got identity.Credential
		generation, hit := m.get(hash, raw, now, &got)
		switch {
		case hit:
			found++
			want := put[raw]
			if got.User != want.User || got.Email != want.Email || !now.Before(want.ExpiresAt) || now.Before(want.IssuedAt) {
				t.Fatalf("step %d: at %s got %+v, want %+v", n, now, got, want)
			}
		case random.IntN(2) == 0:
			c := identity.Credential{User: identity.UserID{byte(n), byte(n >> 8)}, Email: raw[:random.IntN(len(raw))], IssuedAt: now,
				ExpiresAt: base.Add(time.Duration(random.IntN(120)) * time.Second)}
			if random.IntN(20) == 0 {
				c.Roles = strings.Split(strings.Repeat("role ", random.IntN(5000)), " ")
			}
			evicted += m.put(hash, raw, now, generation, &c)
			if now.Before(c.ExpiresAt) {
				put[raw] = c
			}
		}
		if random.IntN(20_000) == 0 {
			m.forget()
		}
	}
	if found < 3000 || evicted < 1000 {
		t.Errorf("%d found and %d evicted: the test hardly tries", found, evicted)
	}
	for i := range m.shards {
		s := &m.shards[i]
		bytes := int64(unsafe.Sizeof(*s)) + int64(len(s.chains))*pointerBytes
		chained, queued := 0, 0
		for at := range s.chains {
			for e := s.chains[at].Load(); e != nil; e = e.chain.Load() {
				chained++
				bytes += e.bytes()
			}
		}
		for e := s.queue.next; e != &s.queue; e = e.next {
			queued++
		}
		if s.bytes > s.room || s.bytes != bytes || s.count != chained || s.count != queued {
			t.Errorf("shard %d: %d bytes of %d, counted %d; %d entries, %d in chains and %d in the queue", i, s.bytes, s.room, bytes, s.count, chained, queued)
		}
	}
}

func TestWhatIsAskedForStaysInMemoryLongest(t *testing.T) {
	t.Parallel()
	m := newMemory(leastBytes)
	now := time.Unix(1_800_000_000, 0)
	said := identity.Credential{ExpiresAt: now.Add(time.Hour)}
	m.put(0, "hot", now, 0, &said)
	evicted := 0
	for n := range 20_000 {
		evicted += m.put(uint64(n%4096), fmt.Sprint(n), now, 0, &said) // all in one shard
		var got identity.Credential
		if _, hit := m.get(0, "hot", now, &got); !hit {
			t.Fatalf("evicted after %d others, though it is asked for all the time", n)
		}
	}
	if evicted == 0 {
		t.Error("nothing was evicted")
	}
}
