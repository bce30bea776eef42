// Package wiring turns settings into the parts that more than one process makes,
// so that `gatehouse token mint` signs exactly what authz accepts, and that both
// services hold the database alike.
//
// It must never know what a part is used for.
package wiring

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/token"
)

// OpenStore makes a service's pool of connections and registers its metrics. A
// database that is down is no error; one whose URL cannot be read is one of the
// settings. A nil tracer is none.
func OpenStore(ctx context.Context, d config.Database, app string, log *slog.Logger, metrics prometheus.Registerer, tracer trace.Tracer) (*postgres.Store, error) {
	store, err := postgres.Open(ctx, postgres.Options{
		URL:      d.URL.Reveal(),
		MinConns: int(d.PoolMin),
		MaxConns: int(d.PoolMax),
		AppName:  app,
		PlanOnce: true,
		Logger:   log,
		Tracer:   tracer,
	})
	if err != nil {
		return nil, err
	}
	if err := metrics.Register(store.Collector()); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

// TokenRules reads the keys as they are now, without those of another issuer. Its
// error is one of the settings: they were there, but cannot be used.
func TokenRules(t config.Tokens) (token.Rules, error) {
	keys, err := sources(t).KeySet()
	if err != nil {
		return token.Rules{}, wrongKeys(t, err)
	}
	return rules(t, keys), nil
}

// KeyRing is TokenRules for those who run on: the rules have the keys of now, and
// the ring says which ones come after them. Of o only what is not in the settings
// has to be filled in.
func KeyRing(t config.Tokens, o keyring.Options) (*keyring.Ring, token.Rules, error) {
	o.Sources, o.File, o.URL, o.Proxy = sources(t), t.KeysFile, t.JWKSURL, http.ProxyFromEnvironment
	ring, err := keyring.New(o)
	if err != nil {
		return nil, token.Rules{}, wrongKeys(t, err)
	}
	r := rules(t, ring.Keys())
	if t.JWKSURL != nil {
		r.Await = ring.Await
	}
	return ring, r, nil
}

func sources(t config.Tokens) token.Sources {
	return token.Sources{
		Algorithm:  t.Algorithm,
		Secret:     []byte(t.Secret.Reveal()),
		PublicPEM:  []byte(t.PublicKey),
		PrivatePEM: []byte(t.PrivateKey.Reveal()),
		JWKSet:     []byte(t.Keys.Reveal()),
		Remote:     t.JWKSURL != nil,
	}
}

func rules(t config.Tokens, keys *token.KeySet) token.Rules {
	r := token.Rules{Keys: keys, Audience: t.Audience, Issuer: t.Issuer, Leeway: t.Leeway}
	if t.Profile == config.ProfileSupabase {
		r.Profile = token.Supabase
	}
	return r
}
