package authzd

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/issuers"
	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/token"
)

// keyPatience is how long readiness waits for the keys of another issuer. They
// are usually there within a second, and then no token is refused for want of
// them. Where they do not come, tokens of keys that are known can be judged all
// the same, and the others get the 503 that says so.
const keyPatience = 10 * time.Second

func awaitKeys(ctx context.Context, ring *keyring.Ring, book *issuers.Book, log *slog.Logger) {
	all := []<-chan struct{}{ring.Settled()}
	if book != nil {
		all = slices.Concat(all, book.Settled())
	}
	enough := time.NewTimer(keyPatience)
	defer enough.Stop()
	for _, settled := range all {
		select {
		case <-ctx.Done():
			return
		case <-settled:
		case <-enough.C:
			log.Warn("the key set of the other issuer could not be fetched yet; tokens that it signed are answered 503 until it is", "waited", keyPatience)
			return
		}
	}
}

// maxCountedKeys bounds the names of keys in the metrics: another issuer chooses
// its own, and rotates them for as long as this process runs.
const maxCountedKeys = 64

// countVerified makes a counter for each key, so that whoever moves to another
// key sees when the old one is no longer in use.
func countVerified(registerer prometheus.Registerer) (func(token.Key) func(), error) {
	verified := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_authz_tokens_verified_total",
		Help: "Tokens whose signature and claims were found good, by algorithm and key: its kid, or secret, pem, or other past a bound of names.",
	}, []string{"alg", "key"})
	if err := registerer.Register(verified); err != nil {
		return nil, err
	}
	var names keyNames
	return func(k token.Key) func() {
		return verified.WithLabelValues(k.Algorithm(), names.of("", k)).Inc
	}, nil
}

// countByIssuer does the same for several issuers, in a metric of its own: the names
// of keys are each issuer's own, and what is counted of ours must not grow by theirs.
func countByIssuer(registerer prometheus.Registerer) (func(issuer string) func(token.Key) func(), error) {
	verified := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_authz_tokens_verified_by_issuer_total",
		Help: "Tokens whose signature and claims were found good, by issuer (own, or its name in the file of issuers), algorithm and key: its kid, or secret, pem, or other past a bound of names.",
	}, []string{"issuer", "alg", "key"})
	if err := registerer.Register(verified); err != nil {
		return nil, err
	}
	var names keyNames
	return func(issuer string) func(token.Key) func() {
		return func(k token.Key) func() {
			return verified.WithLabelValues(issuer, k.Algorithm(), names.of(issuer, k)).Inc
		}
	}, nil
}

// both counts in two places.
func both(a, b func(token.Key) func()) func(token.Key) func() {
	return func(k token.Key) func() {
		first, second := a(k), b(k)
		return func() {
			first()
			second()
		}
	}
}

// keyNames are the labels of keys, in a bounded number.
type keyNames struct {
	mu    sync.Mutex
	named map[string]bool
}

func (n *keyNames) of(issuer string, k token.Key) string {
	if k.Origin() != token.OriginSet && k.Origin() != token.OriginFetched {
		return string(k.Origin())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	name := issuer + " " + k.ID()
	if len(n.named) >= maxCountedKeys && !n.named[name] {
		return "other"
	}
	if n.named == nil {
		n.named = map[string]bool{}
	}
	n.named[name] = true
	return k.ID()
}
