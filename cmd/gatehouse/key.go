package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/token"
)

func newKey(in *invocation) *cobra.Command {
	return group(&cobra.Command{
		Use:   "key",
		Short: "Make, list and rotate the keys of tokens",
		Long: `Make, list and rotate the keys of tokens.

A key set (GATEWAY_JWT_KEYS_FILE) is a JWK set whose one key with
"key_ops":["sign"] signs; all of them verify. The services read the file anew
when it changes. A rotation in three steps refuses no token that is good:

  1. gatehouse key rotate add          the new key verifies only; wait 10 minutes
  2. gatehouse key rotate promote KID  it signs; wait for the life of a token
  3. gatehouse key rotate remove KID   the old key is gone`,
	},
		newKeyGenerate(in),
		newKeyList(in),
		newKeyRotate(in),
	)
}

// keyView is a key without what is secret of it.
type keyView struct {
	KID       string `json:"kid"`
	Algorithm string `json:"alg"`
	Type      string `json:"kty"`
	// Use is "sign" for the one key that signs, and verifies too, else "verify".
	Use string `json:"use"`
	// Source is secret, pem, set or fetched.
	Source string `json:"source"`
}

func newKeyList(in *invocation) *cobra.Command {
	var out format
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the configured keys, without what is secret of them",
		Long: `List the configured keys, without what is secret of them: what verifies, what
signs, and where each key comes from (secret: GATEWAY_JWT_SECRET, pem, set:
GATEWAY_JWT_KEYS, fetched: GATEWAY_JWT_JWKS_URL).`,
		Example: "  gatehouse key list\n  gatehouse key list --output json",
		Args:    takes(),
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			s, err := in.settings(config.NeedVerify)
			if err != nil {
				return err
			}
			rules, err := wiring.TokenRules(s.Tokens)
			if err != nil {
				return &useError{err}
			}
			keys := rules.Keys.Describe()
			if s.Tokens.JWKSURL != nil {
				set, err := fetchedKeys(ctx, s.Tokens)
				if err != nil {
					return err
				}
				for _, k := range set.Describe() {
					if k.Origin == token.OriginFetched {
						keys = append(keys, k)
					}
				}
			}
			return in.listKeys(keys, out)
		}),
	}
	outputFlag(cmd, &out)
	return cmd
}

func (in *invocation) listKeys(keys []token.KeyOf, out format) error {
	views := make([]keyView, len(keys))
	for i, k := range keys {
		views[i] = viewKey(k)
	}
	if out == formatJSON {
		return writeJSON(in.stdout, views)
	}
	t := newTable("KID", "ALG", "KTY", "USE", "SOURCE")
	for _, v := range views {
		t.row(v.KID, v.Algorithm, v.Type, v.Use, v.Source)
	}
	return t.writeTo(in.stdout)
}

func viewKey(k token.KeyOf) keyView {
	v := keyView{KID: k.ID, Algorithm: k.Algorithm, Type: k.Type, Use: "verify", Source: string(k.Origin)}
	if k.Signs {
		v.Use = "sign"
	}
	return v
}

// fetchPatience bounds what a command waits for another issuer's keys.
const fetchPatience = 6 * time.Second

// fetchedKeys are the configured keys with those of the other issuer, which is
// asked now.
func fetchedKeys(ctx context.Context, t config.Tokens) (*token.KeySet, error) {
	ring, _, err := wiring.KeyRing(t, keyring.Options{
		Registerer: prometheus.NewRegistry(),
		Logger:     slog.New(slog.DiscardHandler), // what is wrong is this command's to say
	})
	if err != nil {
		return nil, &useError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, fetchPatience)
	defer cancel()
	if err := ring.Fetch(ctx); err != nil {
		return nil, &fetchError{err}
	}
	return ring.Keys(), nil
}

type fetchError struct{ error }

func (e *fetchError) Error() string {
	return "fetching the key set of GATEWAY_JWT_JWKS_URL: " + e.error.Error()
}

func (e *fetchError) Unwrap() error { return e.error }
