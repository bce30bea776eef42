// Package wiring turns settings into the parts that more than one process makes,
// so that `gatehouse token mint` signs exactly what authz accepts, and that both
// services hold the database alike.
//
// It must never know what a part is used for.
package wiring

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/token"
)

// OpenStore makes a service's pool of connections and registers its metrics. A
// database that is down is no error; one whose URL cannot be read is one of the
// settings.
func OpenStore(ctx context.Context, d config.Database, app string, log *slog.Logger, metrics prometheus.Registerer) (*postgres.Store, error) {
	store, err := postgres.Open(ctx, postgres.Options{
		URL:      d.URL.Reveal(),
		MinConns: int(d.PoolMin),
		MaxConns: int(d.PoolMax),
		AppName:  app,
		Logger:   log,
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

// TokenRules reads the keys. Its error is one of the settings: they were there,
// but cannot be used.
func TokenRules(t config.Tokens) (token.Rules, error) {
	keys, err := token.Sources{
		Algorithm:  t.Algorithm,
		Secret:     []byte(t.Secret.Reveal()),
		PublicPEM:  []byte(t.PublicKey),
		PrivatePEM: []byte(t.PrivateKey.Reveal()),
		JWKSet:     []byte(t.Keys.Reveal()),
		Remote:     t.JWKSURL != nil,
	}.KeySet()
	if err != nil {
		return token.Rules{}, fmt.Errorf("the keys of GATEWAY_JWT_…: %w", err)
	}
	rules := token.Rules{Keys: keys, Audience: t.Audience, Issuer: t.Issuer, Leeway: t.Leeway}
	if t.Profile == config.ProfileSupabase {
		rules.Profile = token.Supabase
	}
	return rules, nil
}
