package authzd

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/token"
)

// keyPatience is how long readiness waits for the keys of another issuer. They
// are usually there within a second, and then no token is refused for want of
// them. Where they do not come, tokens of keys that are known can be judged all
// the same, and the others get the 503 that says so.
const keyPatience = 10 * time.Second

func awaitKeys(ctx context.Context, ring *keyring.Ring, log *slog.Logger) {
	enough := time.NewTimer(keyPatience)
	defer enough.Stop()
	select {
	case <-ctx.Done():
	case <-ring.Settled():
	case <-enough.C:
		log.Warn("the key set of the other issuer could not be fetched yet; tokens that it signed are answered 503 until it is", "waited", keyPatience)
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
	var mu sync.Mutex
	named := map[string]bool{}
	return func(k token.Key) func() {
		name := string(k.Origin())
		if k.Origin() == token.OriginSet || k.Origin() == token.OriginFetched {
			name = k.ID()
			mu.Lock()
			defer mu.Unlock()
			if len(named) >= maxCountedKeys && !named[name] {
				name = "other"
			} else {
				named[name] = true
			}
		}
		return verified.WithLabelValues(k.Algorithm(), name).Inc
	}, nil
}
