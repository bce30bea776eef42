package activity

import (
	"math"
	"time"
	"unique"

	"github.com/atenex/gatehouse/internal/identity"
)

// key is a question: user, session, company.
type key [48]byte

func keyOf(q identity.Question) key {
	var k key
	copy(k[0:], q.User[:])
	copy(k[16:], q.Session[:])
	copy(k[32:], q.Company[:])
	return k
}

func (k *key) company() identity.CompanyID { return identity.CompanyID(k[32:]) }

// entry is an answer, packed, with the generations that it stands under.
type entry struct {
	key         key
	email       string
	memberships []identity.Membership // shared with callers, never changed

	read                                      int64 // monotonic nanoseconds
	validAfter, authTime, validFrom, notAfter int64 // see microseconds
	flush, user, session, company             uint32

	hash  uint32
	facts uint8
	held  bool // the slot is in use
	used  bool // since the clock's hand came by
}

const (
	factExists = 1 << iota
	factActive
	factSession
	factEnded
	factSuspended
	factNoOther // it speaks of no company but the one that was asked about
)

// entryOf packs an answer. It refuses one whose times it could not give back
// exactly; a database with microseconds has none.
func entryOf(k key, s identity.Standing) (entry, bool) {
	e := entry{key: k, email: s.Email}
	exact := true
	for _, t := range []struct {
		from time.Time
		to   *int64
	}{
		{s.TokensValidAfter, &e.validAfter},
		{s.Session.AuthTime, &e.authTime},
		{s.Session.ValidFrom, &e.validFrom},
		{s.Session.NotAfter, &e.notAfter},
	} {
		*t.to = microseconds(t.from)
		exact = exact && instant(*t.to).Equal(t.from)
	}
	noOther := len(s.Memberships) == 0 || len(s.Memberships) == 1 && s.Memberships[0].Company == k.company()
	for _, f := range []struct {
		is   bool
		fact uint8
	}{
		{s.Exists, factExists}, {s.Active, factActive}, {s.Session.Exists, factSession}, {s.Session.Ended, factEnded},
		{s.Suspended, factSuspended}, {noOther, factNoOther},
	} {
		if f.is {
			e.facts |= f.fact
		}
	}
	if len(s.Memberships) > 0 {
		e.memberships = make([]identity.Membership, len(s.Memberships))
		for i, m := range s.Memberships {
			m.Role = unique.Make(m.Role).Value() // there are few, and many of each
			e.memberships[i] = m
		}
	}
	return e, exact
}

func (e *entry) standing() identity.Standing {
	return identity.Standing{
		Exists:           e.facts&factExists != 0,
		Active:           e.facts&factActive != 0,
		Email:            e.email,
		TokensValidAfter: instant(e.validAfter),
		Session: identity.Session{
			Exists:    e.facts&factSession != 0,
			Ended:     e.facts&factEnded != 0,
			AuthTime:  instant(e.authTime),
			ValidFrom: instant(e.validFrom),
			NotAfter:  instant(e.notAfter),
		},
		Suspended:   e.facts&factSuspended != 0,
		Memberships: e.memberships,
	}
}

// bytes is what an entry costs beside its slot, rounded up as the allocator does.
func (e *entry) bytes() int64 {
	const grain = 16
	const membership = 40
	return int64((len(e.email)+grain-1)/grain*grain + (len(e.memberships)*membership+grain-1)/grain*grain)
}

// unset is the zero time, which is no time.
const unset = math.MinInt64

// microseconds packs a time as those since 1970.
func microseconds(t time.Time) int64 {
	if t.IsZero() {
		return unset
	}
	return t.UnixMicro()
}

func instant(micro int64) time.Time {
	if micro == unset {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}
