package envoy_test

import (
	"strings"
	"testing"

	"github.com/atenex/gatehouse/envoy/routes"
)

// What is new lives where no client of the replaced gateways sends anything:
// below /api/v1/auth is another service, which takes tokens untouched.
func TestD12TheLoginServiceIsReachedWhereItsEndpointsLive(t *testing.T) {
	for _, name := range routes.Shipped() {
		table, err := routes.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range table.Routes {
			at := r.Match.String()
			switch {
			case r.Answer != nil || r.Upstream != "login":
			case at == "/" || at == "/health" || at == "/.well-known/jwks.json" || at == "/openapi.json" || at == "/api/v1/auth/register":
			case strings.HasPrefix(at, "/api/v1/users/") || strings.HasPrefix(at, "/api/v1/companies/{uuid}/"):
				if r.Match.Prefix != "" {
					t.Errorf("%s: %s is a prefix, which takes more than is served", name, at)
				}
			default:
				t.Errorf("%s: the login service is reached at %s", name, at)
			}
		}
	}
}
