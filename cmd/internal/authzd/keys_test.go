package authzd

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atenex/gatehouse/internal/token"
)

func TestTheNamesOfKeysInMetricsAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter, err := countVerified(registry)
	if err != nil {
		t.Fatal(err)
	}
	const rotations = 200
	for n := range rotations {
		key, _, err := token.GenerateJWK("EdDSA", fmt.Sprint("key-", n))
		if err != nil {
			t.Fatal(err)
		}
		set, err := token.AddJWK(nil, key)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := token.Sources{Algorithm: "HS256", JWKSet: set, Secret: []byte("test-secret-made-of-obvious-words-for-authz")}.KeySet()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys.Keys() {
			counter(k)()
		}
	}
	// Those within the bound, the others together, and the secret.
	if n, err := testutil.GatherAndCount(registry, "gatehouse_authz_tokens_verified_total"); err != nil || n != maxCountedKeys+2 {
		t.Errorf("%d series (%v), want %d", n, err, maxCountedKeys+2)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := 0.0
	for _, m := range families[0].Metric {
		counted += m.GetCounter().GetValue()
	}
	if counted != 2*rotations {
		t.Errorf("%v tokens were counted, want %d", counted, 2*rotations)
	}
}
