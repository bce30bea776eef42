// Package verified remembers what a verifier said of a token, until that could be
// otherwise.
//
// Only successes are remembered, each under its whole token: nothing less
// identifies one, and a refusal costs the next asker what it cost the first. What
// was said holds from the moment that it was said for, until the token ends or
// Forget says that the verifier itself is another. In between its judgement can
// only be the same, because a verifier knows nothing but the token, its rules and
// the time.
//
// No library does this. The LRU caches count entries, not bytes, and make every
// hit a write to one list; those that are bounded by a weight evict later, on
// goroutines of their own, past the bound; those without garbage take keys for
// equal that have one hash, or copy and decode at every hit. None of them has the
// fence that keeps a judgement under old keys from being stored after new ones.
//
// It must never know what a token looks like, how it is verified, or whether its
// user may pass.
package verified

import (
	"errors"
	"hash/maphash"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/identity"
)

// Verifier says what a token says at a moment, or which problem it has. What it
// accepts once, it must accept from then on in the same words, until the token's
// ExpiresAt or until Forget is called. The time is that of the wall clock.
type Verifier interface {
	Verify(raw string, now time.Time) (identity.Credential, error)
}

var _ Verifier = (*Cache)(nil)

// DefaultBytes hold about 80,000 tokens of 400 bytes.
const DefaultBytes = 64 << 20

// hashed is how much of a token's end is hashed: a part of its signature, in which no
// two tokens that verify are alike. What a token is known by is the whole of it.
const hashed = 64

// Options are the choices of a Cache. Verifier and Registerer are needed.
type Options struct {
	Verifier Verifier
	// Bytes bounds what is remembered, and the memory that is spent on it; zero:
	// DefaultBytes; at least 1 MiB.
	Bytes int64

	Registerer prometheus.Registerer
}

// Cache answers from memory or from its verifier. It may be used by any number of
// goroutines and has none.
type Cache struct {
	verifier Verifier
	hash     func(string) uint64
	memory   *memory
	observer *observer
}

// New makes an empty cache and registers its metrics.
func New(o Options) (*Cache, error) {
	switch {
	case o.Verifier == nil:
		return nil, errors.New("a cache of tokens needs a verifier")
	case o.Registerer == nil:
		return nil, errors.New("a cache of tokens needs a metrics registry")
	}
	if o.Bytes == 0 {
		o.Bytes = DefaultBytes
	}
	if o.Bytes < leastBytes {
		return nil, errors.New("a cache of tokens of less than 1 MiB")
	}
	// The seed is this process's secret: nobody can make tokens that meet in one
	// place, or learn from the time of an answer where a comparison ended.
	seed := maphash.MakeSeed()
	c := &Cache{
		verifier: o.Verifier,
		hash:     func(raw string) uint64 { return maphash.String(seed, raw[max(0, len(raw)-hashed):]) },
		memory:   newMemory(o.Bytes),
	}
	var err error
	if c.observer, err = newObserver(o.Registerer, c.memory); err != nil {
		return nil, err
	}
	return c, nil
}

// Verify says what the verifier says of raw at now. A credential from memory
// allocates nothing; its Roles are shared and must not be changed. Nothing of raw
// is kept: a caller may reuse the bytes that it lies in.
func (c *Cache) Verify(raw string, now time.Time) (identity.Credential, error) {
	hash := c.hash(raw)
	var known identity.Credential
	generation, hit := c.memory.get(hash, raw, now, &known)
	if hit {
		c.observer.hits.Inc()
		return known, nil
	}
	c.observer.misses.Inc()
	said, err := c.verifier.Verify(raw, now)
	if err == nil {
		c.observer.evictions.Add(float64(c.memory.put(hash, raw, now, generation, &said)))
	}
	return said, err
}

// Forget ends everything that is remembered, and what is being verified now will
// not be remembered either. It is for after the verifier's keys or rules changed:
// no Verify that begins when it has returned is answered with what was said
// before it was called.
func (c *Cache) Forget() { c.memory.forget() }
