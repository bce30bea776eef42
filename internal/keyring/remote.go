package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atenex/gatehouse/internal/token"
)

const (
	// maxDocument bounds what is read of a fetched set.
	maxDocument = 1 << 20
	// fetchTime bounds one fetch from the look-up of the name to the last byte.
	fetchTime = 5 * time.Second
	maxRetry  = time.Minute
	// maxRedirects within the host that was configured.
	maxRedirects = 3
	// maxWaiting bounds the tokens that wait for a fetch at one time: the others
	// are answered by what is known.
	maxWaiting = 256
	// maxKeyID is the longest kid that a key can have.
	maxKeyID = 256
	// maxAbsent bounds the kids that are remembered as being nobody's.
	maxAbsent = 1024
)

// remote is the set that another issuer publishes.
type remote struct {
	client *http.Client
	// kick wakes the fetcher for a flight that a token began.
	kick    chan struct{}
	waiting atomic.Int32
	settled chan struct{} // closed by the first fetch that succeeded

	mu     sync.Mutex
	flight *flight
	next   time.Time            // when an unknown kid may cause a fetch again
	absent map[string]time.Time // kids that a fetch did not bring, until when
	last   time.Time            // of the last good fetch

	failing bool     // the last fetch failed; of the fetcher alone
	refused []string // keys that were left out last; of the fetcher alone
}

// flight is one fetch, from the wish to its end.
type flight struct {
	kid  string // whose wish it was; empty: the clock's
	done chan struct{}
}

func (m *remote) begin(o Options) {
	m.kick = make(chan struct{}, 1)
	m.settled = make(chan struct{})
	m.absent = make(map[string]time.Time)
	if o.URL == nil {
		close(m.settled)
		return
	}
	m.client = &http.Client{
		Timeout: fetchTime,
		Transport: &http.Transport{
			Proxy:                  o.Proxy,
			DisableKeepAlives:      true, // minutes lie between two requests
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != o.URL.Scheme || r.URL.Host != o.URL.Host {
				return errors.New("it redirects to another host")
			}
			if len(via) > maxRedirects {
				return errors.New("it redirects too often")
			}
			return nil
		},
	}
}

// Await is told of a kid that is not known. It returns when the set was fetched
// anew, or at once where that is not to be had: within the budget one token
// causes a fetch, and those that come while it is under way wait for it, no
// longer than Patience. A token never waits for its own turn.
func (r *Ring) Await(kid string) {
	f, why := r.remote.join(kid, time.Now(), r.timing.Budget)
	if f != nil && r.remote.waiting.Add(1) > maxWaiting {
		r.remote.waiting.Add(-1)
		f, why = nil, "crowded"
	}
	r.metrics.unknown.WithLabelValues(why).Inc()
	if f == nil {
		return
	}
	defer r.remote.waiting.Add(-1)
	enough := time.NewTimer(r.timing.Patience)
	defer enough.Stop()
	select {
	case <-f.done:
	case <-enough.C:
	}
}

// join finds the flight to wait for, or begins one; nil: there is none.
func (m *remote) join(kid string, now time.Time, budget time.Duration) (*flight, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, absent := m.absent[kid]
	switch {
	case len(kid) > maxKeyID, absent && now.Before(until):
		return nil, "absent"
	case m.flight != nil:
		return m.flight, "awaited"
	case now.Before(m.next):
		return nil, "throttled"
	}
	m.next = now.Add(budget)
	m.flight = &flight{kid: kid, done: make(chan struct{})}
	select {
	case m.kick <- struct{}{}:
	default: // it is awake already
	}
	return m.flight, "awaited"
}

// keepFetching fetches at once and then by the clock, by wish of a token and when
// it is told to.
func (r *Ring) keepFetching(ctx context.Context, now <-chan struct{}) {
	retry := r.timing.Retry
	for {
		wait := r.timing.Refresh
		if err := r.Fetch(ctx); err != nil {
			wait, retry = min(retry, r.timing.Refresh), min(2*retry, maxRetry)
		} else {
			retry = r.timing.Retry
		}
		// A tenth to either side, so that replicas do not ask in step.
		wait += time.Duration((rand.Float64() - 0.5) / 5 * float64(wait)) //nolint:gosec // not a secret
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-r.remote.kick:
		case <-now:
		}
		timer.Stop()
	}
}

// Fetch fetches the set once and puts it in force. Where Run runs, it is Run's to
// call.
func (r *Ring) Fetch(ctx context.Context) error {
	m := &r.remote
	m.mu.Lock()
	if m.flight == nil {
		m.flight = &flight{done: make(chan struct{})}
	}
	f := m.flight
	m.mu.Unlock()
	keys, refused, err := m.get(ctx, r.with.URL.String(), r.with.Sources.Algorithm)
	if err == nil {
		r.landed(keys, refused)
	}
	m.mu.Lock()
	m.flight = nil
	if err == nil && f.kid != "" {
		m.remember(f.kid, keys, time.Now(), r.timing.Absent)
	}
	m.mu.Unlock()
	close(f.done)
	if err == nil {
		select {
		case <-m.settled:
		default:
			close(m.settled)
		}
	}

	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.metrics.refreshes.WithLabelValues("error").Inc()
		if !m.failing { // once for an outage
			r.with.Logger.Error("the key set of the other issuer cannot be fetched; what was fetched before stays in force", "error", err)
		}
	case m.failing:
		r.with.Logger.Info("the key set of the other issuer is fetched again")
	}
	m.failing = err != nil
	return err
}

// remember notes that a kid is nobody's, so that whoever goes on using it does
// not go on causing fetches.
func (m *remote) remember(kid string, keys []token.Key, now time.Time, keep time.Duration) {
	for k, until := range m.absent {
		if !now.Before(until) {
			delete(m.absent, k)
		}
	}
	found := slices.ContainsFunc(keys, func(k token.Key) bool { return k.ID() == kid })
	if !found && len(m.absent) < maxAbsent {
		m.absent[kid] = now.Add(keep)
	}
}

// landed puts a fetched set in force and speaks of what was left out of it, when
// that has changed.
func (r *Ring) landed(keys []token.Key, refused []string) {
	m := &r.remote
	before := r.Keys()
	taken := r.takeForeign(keys)
	m.mu.Lock()
	m.last = time.Now()
	m.mu.Unlock()
	r.metrics.refreshes.WithLabelValues("ok").Inc()
	r.metrics.foreign.Set(float64(taken))
	if !sameKeys(before, r.Keys()) {
		r.with.Logger.Info("the key set of the other issuer has changed", "keys", taken)
	}
	if taken < len(keys) {
		refused = append(refused, fmt.Sprintf("%d keys have the kid of a key of our own", len(keys)-taken))
	}
	if !slices.Equal(refused, m.refused) && len(refused) > 0 {
		r.with.Logger.Warn("keys of the other issuer were left out", "why", refused)
	}
	m.refused = refused
}

func sameKeys(a, b *token.KeySet) bool {
	return slices.Equal(a.Describe(), b.Describe())
}

// Settled is closed when a set was fetched, or from the start where there is none
// to fetch.
func (r *Ring) Settled() <-chan struct{} { return r.remote.settled }

// age is how old the fetched set is, in seconds.
func (m *remote) age(now time.Time) (seconds float64, ever bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Sub(m.last).Seconds(), !m.last.IsZero()
}

func (m *remote) get(ctx context.Context, url, algorithm string) ([]token.Key, []string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	request.Header.Set("User-Agent", "gatehouse")
	answer, err := m.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("it answers %d", answer.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("reading the answer: %w", err)
	case len(text) > maxDocument:
		return nil, nil, fmt.Errorf("the answer has more than %d bytes", maxDocument)
	}
	keys, refused, err := token.ReadPublishedSet(text, algorithm)
	if err != nil {
		return nil, nil, fmt.Errorf("the answer is no key set: %w", err)
	}
	return keys, refused, nil
}
