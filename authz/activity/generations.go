package activity

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"github.com/atenex/gatehouse/internal/identity"
)

// generations counts notices. There are fewer counters than users, so a notice
// may make another user's entry worthless too, which costs a read; but none is
// ever missed, and no index of what is remembered is needed.
//
// 32 bits suffice: an entry lives 30 seconds, in which no counter goes round.
type generations struct {
	flush     atomic.Uint32
	companies atomic.Uint32 // every notice about a company
	user      [1 << 17]atomic.Uint32
	session   [1 << 17]atomic.Uint32
	company   [1 << 12]atomic.Uint32
}

// mark is what the generations were before a read. The companies that the answer
// will name are not known then, so all of them are one number here.
type mark struct {
	flush, user, session, companies uint32
	at                              moment
}

func (c *Cache) mark(q identity.Question, now moment) mark {
	return mark{
		flush:     c.generations.flush.Load(),
		user:      c.userGeneration(q.User),
		session:   c.sessionGeneration(q.Session),
		companies: c.generations.companies.Load(),
		at:        now,
	}
}

func (c *Cache) userGeneration(id identity.UserID) uint32 {
	return c.userCounter(id).Load()
}

func (c *Cache) sessionGeneration(id identity.SessionID) uint32 {
	if id.IsZero() {
		return 0
	}
	return c.sessionCounter(id).Load()
}

// manyCompanies is how many are looked at one by one in a hit; an entry with more
// of them falls to a notice about any company.
const manyCompanies = 8

// companyGenerations sums the counters of every company that an answer speaks of.
// Counters only rise, so the sum differs as soon as one of them does.
func (c *Cache) companyGenerations(asked identity.CompanyID, memberships []identity.Membership) uint32 {
	if len(memberships) > manyCompanies {
		return c.generations.companies.Load()
	}
	var sum uint32
	if !asked.IsZero() {
		sum = c.companyCounter(asked).Load()
	}
	for i := range memberships {
		if id := memberships[i].Company; id != asked {
			sum += c.companyCounter(id).Load()
		}
	}
	return sum
}

func (c *Cache) userCounter(id identity.UserID) *atomic.Uint32 {
	return &c.generations.user[place(id)%len(c.generations.user)]
}

func (c *Cache) sessionCounter(id identity.SessionID) *atomic.Uint32 {
	return &c.generations.session[place(id)%len(c.generations.session)]
}

func (c *Cache) companyCounter(id identity.CompanyID) *atomic.Uint32 {
	return &c.generations.company[place(id)%len(c.generations.company)]
}

// place spreads ids, made at random or counted up, over the counters. Whoever
// chose ids that meet would win nothing but reads.
func place(id [16]byte) int {
	const golden = 0x9E3779B97F4A7C15
	low, high := binary.LittleEndian.Uint64(id[8:]), binary.LittleEndian.Uint64(id[:8])
	return int((low ^ bits.RotateLeft64(high*golden, 32)) * golden >> 33)
}
