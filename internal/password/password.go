// Package password makes password hashes and judges passwords against them,
// in bounded time, with bounded memory, and without a clock that tells a
// stranger whether there was anything to judge.
//
// It must never know whose password it holds: no user, no email address, no
// request and no table appears here. It never normalises, trims or changes a
// password: what was set is compared byte for byte with what was received.
package password

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Scheme names a way of hashing, as operators spell it.
type Scheme string

// The schemes of new hashes. Hashes of both verify, whichever is current.
const (
	Argon2id Scheme = "argon2id"
	Bcrypt   Scheme = "bcrypt"
)

// The refusals of this package.
var (
	// ErrBusy is returned when no permit was free in time or too many wait.
	ErrBusy = errors.New("too many passwords are being hashed")
	// ErrNUL is returned for a new password that holds a NUL. bcrypt repeats
	// its key with one NUL between, so that "a" and "a\x00a" would be equal.
	ErrNUL = errors.New("a password must not hold a NUL character")
	// ErrTooLong is returned for a new password that bcrypt would cut.
	ErrTooLong = errors.New("a password of more than 72 bytes cannot be hashed with bcrypt")
)

// Options are the settings of a Hasher. The zero value hashes with argon2id,
// upgrades nothing and refuses long passwords on bcrypt hashes.
type Options struct {
	Scheme           Scheme // of new hashes; empty: Argon2id
	Upgrade          bool   // Match.Upgrade is only ever true with it
	BcryptTruncate72 bool   // compare the first 72 bytes with a bcrypt hash

	Argon2id   Argon2idCost // of new hashes; zero: 32 MiB, 3 passes, 1 lane
	BcryptCost int          // of new hashes; zero: 12

	Processors  int   // zero: GOMAXPROCS
	MemoryLimit int64 // bytes; zero: the runtime's own (GOMEMLIMIT)

	Logger  *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: nothing is exported
}

// Hasher hashes and verifies. It is safe for simultaneous use.
type Hasher struct {
	scheme     Scheme
	argon2id   Argon2idCost
	bcryptCost int
	upgrade    bool
	truncate72 bool

	decoy   stored
	permits *permits
	floor   *floor
	// costly lets one hash at a time need more memory than a permit stands
	// for: a row of 256 MiB is lawful, one of them in every permit is an
	// out-of-memory kill.
	costly  sync.Mutex
	metrics *metrics
	log     *slog.Logger
}

// Scheme is that of new hashes.
func (h *Hasher) Scheme() Scheme { return h.scheme }

// New returns a Hasher. It hashes nothing yet: see Calibrate.
func New(o Options) (*Hasher, error) {
	h := &Hasher{
		scheme: o.Scheme, argon2id: o.Argon2id, bcryptCost: o.BcryptCost,
		upgrade: o.Upgrade, truncate72: o.BcryptTruncate72,
		log: o.Logger, metrics: newMetrics(o.Metrics),
	}
	if h.scheme == "" {
		h.scheme = Argon2id
	}
	if h.argon2id == (Argon2idCost{}) {
		h.argon2id = defaultArgon2id()
	}
	if h.bcryptCost == 0 {
		h.bcryptCost = LegacyBcryptCost
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case h.scheme != Argon2id && h.scheme != Bcrypt:
		return nil, fmt.Errorf("unknown password scheme %q", string(h.scheme))
	case !h.argon2id.lawful():
		return nil, fmt.Errorf("argon2id cost %+v is out of bounds", h.argon2id)
	case h.bcryptCost < minBcryptCost || h.bcryptCost > maxBcryptCost:
		return nil, fmt.Errorf("bcrypt cost %d is not within %d and %d", h.bcryptCost, minBcryptCost, maxBcryptCost)
	}
	h.decoy = h.newDecoy()
	h.floor = newFloor()
	h.permits = newPermits(h.permitCount(o.Processors, o.MemoryLimit), h.metrics)
	return h, nil
}

// permitCount leaves one processor to everything that is not a hash, and keeps
// the memory of all simultaneous hashes within a quarter of the limit.
func (h *Hasher) permitCount(processors int, limit int64) int {
	if processors == 0 {
		processors = runtime.GOMAXPROCS(0)
	}
	if limit == 0 {
		limit = debug.SetMemoryLimit(-1)
	}
	n := processors - 1
	if h.scheme == Argon2id && limit != math.MaxInt64 {
		n = min(n, int(limit/4/(int64(h.argon2id.MemoryKiB)<<10)))
	}
	return max(1, n)
}

// Match is the judgement of one password.
type Match struct {
	OK bool
	// Upgrade asks for the stored hash to be replaced by a new one of the same
	// password. It is never true without OK.
	Upgrade bool
}

// Permit is the right to keep one processor busy. It belongs to the goroutine
// that asked for it and is not safe for simultaneous use; because hashing
// happens on that goroutine, a client that hangs up frees nothing early.
type Permit struct {
	hasher   *Hasher
	granted  time.Time
	released bool
}

// Release gives the permit back. Releasing twice is harmless.
func (p *Permit) Release() {
	if !p.released {
		p.released = true
		p.hasher.permits.release()
	}
}

// Verify judges password against a stored hash. It always computes exactly one
// hash: where the stored one is empty, malformed, of an unknown scheme or
// beyond the bounds, that of a decoy of the current scheme, whose result is
// thrown away.
func (p *Permit) Verify(hash, password string) Match {
	h := p.hasher
	row, usable := parse(hash)
	usable = usable && strings.IndexByte(password, 0) < 0
	cut := false // the hash speaks of no more than the first 72 bytes
	if _, isBcrypt := row.(bcryptHash); isBcrypt && len(password) >= bcryptLimit {
		switch {
		case h.truncate72:
			// Exactly 72 bytes count too: the hash may be of a longer password,
			// and an upgrade would lock out whoever types all of it.
			password, cut = password[:bcryptLimit], true
		case len(password) > bcryptLimit:
			usable = false
		}
	}
	if !usable {
		h.compute(h.decoy, password)
		return Match{}
	}
	ok := h.compute(row, password)
	return Match{OK: ok, Upgrade: ok && h.upgrade && !cut && h.outdated(row)}
}

// Hash makes a new hash of the current scheme.
func (p *Permit) Hash(password string) (string, error) {
	h := p.hasher
	if strings.IndexByte(password, 0) >= 0 {
		return "", ErrNUL
	}
	start := time.Now()
	defer func() { h.metrics.observe(h.scheme, time.Since(start)) }()
	if h.scheme == Bcrypt {
		return newBcrypt(password, h.bcryptCost)
	}
	return newArgon2id(password, h.argon2id).String(), nil
}

// compute judges a password and lets the floor hear how long it took.
func (h *Hasher) compute(row stored, password string) bool {
	ok, elapsed := h.measure(row, password)
	h.floor.observe(row, elapsed, time.Now())
	return ok
}

// measure is the one place where a stored hash costs time.
func (h *Hasher) measure(row stored, password string) (bool, time.Duration) {
	if row.memoryKiB() > h.argon2id.MemoryKiB {
		h.costly.Lock()
		defer h.costly.Unlock()
	}
	start := time.Now()
	ok := row.matches(password)
	elapsed := time.Since(start)
	h.metrics.observe(row.scheme(), elapsed)
	return ok, elapsed
}

// outdated reports that a new hash would be stronger than row. An argon2id row
// stays where bcrypt is current: an upgrade never weakens, and bcrypt could not
// hold a long password at all.
func (h *Hasher) outdated(row stored) bool {
	switch row := row.(type) {
	case bcryptHash:
		return h.scheme == Argon2id || row.cost < h.bcryptCost
	case argon2idHash:
		return h.scheme == Argon2id && (row.cost.weakerThan(h.argon2id) || len(row.salt) < saltLength || len(row.key) < keyLength)
	}
	return false
}

// newDecoy makes a hash that no password is known for. A key drawn at random
// costs nothing to make and exactly as much to verify as any other.
func (h *Hasher) newDecoy() stored {
	if h.scheme == Bcrypt {
		return decoyBcrypt(h.bcryptCost)
	}
	return argon2idHash{cost: h.argon2id, salt: random(saltLength), key: random(keyLength)}
}

// stored is a hash that can be computed within bounds.
type stored interface {
	matches(password string) bool
	scheme() Scheme
	memoryKiB() uint32
	// work orders the hashes of one scheme by the time that they cost.
	work() uint64
}

// SchemeOf tells how a stored hash is made. One that no password could ever be
// verified against has none: it is of another scheme, damaged, or out of bounds.
func SchemeOf(hash string) (Scheme, bool) {
	row, ok := parse(hash)
	if !ok {
		return "", false
	}
	return row.scheme(), true
}

// parse reads a stored hash. What it does not accept is never computed, and
// what it accepts is bounded in time and memory.
func parse(text string) (stored, bool) {
	if strings.HasPrefix(text, "$argon2id$") {
		return parseArgon2id(text)
	}
	return parseBcrypt(text)
}
