// Package keyring keeps the keys in force while a process runs: it reads the JWK
// set in a file anew when the file changes, fetches the set that another issuer
// publishes, and hands every new set to those who use it. What is wrong with a
// new set is said once, and the old one stays.
//
// It must never know what is signed or verified with a key, nor a setting by its
// name; it reads no environment.
package keyring

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/token"
)

// Timing is how often things happen; a zero field is its default.
type Timing struct {
	Poll    time.Duration // between two looks at the file; 1 s
	Refresh time.Duration // between two fetches, give or take a tenth; 5 min
	Retry   time.Duration // after the first fetch that failed, doubled up to a minute; 1 s
	Budget  time.Duration // between two fetches for the sake of unknown kids; 10 s
	// Absent is for how long a kid that a fetch did not bring causes no other; 30 s. What
	// an issuer publishes may come later than its first token, through caches, and a kid
	// can be guessed by somebody who would like it to be refused.
	Absent time.Duration
	// Patience is how long one token waits for a fetch that is under way; 400 ms,
	// which with a look-up of 1.5 s stays within the 2 s that Envoy waits.
	Patience time.Duration
}

func (t Timing) complete() Timing {
	fill := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	fill(&t.Poll, time.Second)
	fill(&t.Refresh, 5*time.Minute)
	fill(&t.Retry, time.Second)
	fill(&t.Budget, 10*time.Second)
	fill(&t.Absent, 30*time.Second)
	fill(&t.Patience, 400*time.Millisecond)
	return t
}

// Options is what a Ring is made of. Registerer and Logger are needed.
type Options struct {
	// Sources are the keys at the start. Of them only JWKSet can change.
	Sources token.Sources
	// File is where JWKSet came from; empty: it cannot change.
	File string
	// URL is where another issuer publishes its set; nil: nowhere. Sources.Remote
	// must say the same.
	URL *url.URL
	// Issuer is the name of that issuer in the metrics, where there are several; empty:
	// there is the one, whose metrics have no such label.
	Issuer string
	// Proxy is that of http.Transport; nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// Signing refuses every set in which no key signs. Without it the set in force
	// holds nothing that could sign.
	Signing bool
	// Counter makes the counter of a key, which is called for each token that the
	// key verified; nil: nobody counts.
	Counter func(token.Key) func()

	Timing     Timing
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Ring is the keys in force. It may be used by several goroutines.
type Ring struct {
	with    Options
	timing  Timing
	metrics metrics
	file    file
	remote  remote

	current atomic.Pointer[token.KeySet]

	change  sync.Mutex // held while a set is put in force
	own     *token.KeySet
	foreign []token.Key
	fetched bool
	hooks   []func(*token.KeySet)
}

// New reads the keys. Its error is one of the settings.
func New(o Options) (*Ring, error) {
	switch {
	case o.Registerer == nil || o.Logger == nil:
		return nil, errors.New("a key ring needs a metrics registry and a logger")
	case o.Sources.Remote != (o.URL != nil):
		return nil, errors.New("a fetched key set needs a URL, and a URL is there to be fetched")
	}
	r := &Ring{with: o, timing: o.Timing.complete()}
	var err error
	if r.metrics, err = newMetrics(o.Registerer, r); err != nil {
		return nil, err
	}
	r.file.inForce = digest(o.Sources.JWKSet)
	r.remote.begin(o)
	own, err := r.read(o.Sources.JWKSet)
	if err != nil {
		return nil, err
	}
	r.own = own
	r.put()
	return r, nil
}

// read makes the keys of our own with this JWK set among them.
func (r *Ring) read(set []byte) (*token.KeySet, error) {
	sources := r.with.Sources
	sources.JWKSet = set
	own, err := sources.KeySet()
	if err != nil {
		return nil, err
	}
	if _, signs := own.Signer(); r.with.Signing && !signs {
		return nil, token.ErrNoSigner
	}
	return own, nil
}

// Keys is the set in force.
func (r *Ring) Keys() *token.KeySet { return r.current.Load() }

// JWKS is the public keys of our own, as a JWK set.
func (r *Ring) JWKS() []byte { return r.Keys().JWKS() }

// OnChange has hook called with every set that is put in force from now on, one
// after the other and in the order of the calls of OnChange: first those who use
// keys, then those who remember what was done with them. When the last hook has
// returned, no answer by the old keys is given any more, but for those that were
// being worked on.
func (r *Ring) OnChange(hook func(*token.KeySet)) {
	r.change.Lock()
	defer r.change.Unlock()
	r.hooks = append(r.hooks, hook)
}

// Run looks after the file and the URL until ctx ends. A value on hangups makes
// it look at once.
func (r *Ring) Run(ctx context.Context, hangups <-chan os.Signal) {
	var running sync.WaitGroup
	defer running.Wait()
	fetchNow := make(chan struct{}, 1)
	if r.with.URL != nil {
		running.Go(func() { r.keepFetching(ctx, fetchNow) })
	}
	tick := time.NewTicker(r.timing.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if r.with.File != "" {
				r.look(false)
			}
		case <-hangups:
			r.with.Logger.Info("asked to read the keys anew")
			if r.with.File != "" {
				r.look(true)
			}
			select {
			case fetchNow <- struct{}{}:
			default: // one is waiting already
			}
		}
	}
}

// take puts keys of our own in force.
func (r *Ring) take(own *token.KeySet) {
	r.change.Lock()
	defer r.change.Unlock()
	r.own = own
	r.put()
}

// takeForeign puts fetched keys in force and says how many there are room for.
func (r *Ring) takeForeign(keys []token.Key) int {
	r.change.Lock()
	defer r.change.Unlock()
	r.foreign, r.fetched = keys, true
	return r.put()
}

func (r *Ring) put() (foreign int) {
	set := r.own
	if r.fetched {
		set, foreign = set.Fetched(r.foreign)
	}
	if !r.with.Signing {
		set = set.VerifyOnly()
	}
	if r.with.Counter != nil {
		set = set.Counted(r.with.Counter)
	}
	r.current.Store(set)
	for _, hook := range r.hooks {
		hook(set)
	}
	return foreign
}
