// Package wiring turns settings into the arguments of the parts that both a
// service and the operator's command make, so that `gatehouse token mint` signs
// exactly what authz accepts.
//
// It must never start anything.
package wiring

import (
	"fmt"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/token"
)

// TokenRules reads the keys. Its error is one of the settings: they were there,
// but cannot be used.
func TokenRules(t config.Tokens) (token.Rules, error) {
	keys, err := token.Sources{
		Algorithm:  t.Algorithm,
		Secret:     []byte(t.Secret.Reveal()),
		PublicPEM:  []byte(t.PublicKey),
		PrivatePEM: []byte(t.PrivateKey.Reveal()),
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
