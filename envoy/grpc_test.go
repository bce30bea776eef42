package envoy_test

import (
	"testing"
)

// Envoy answers a gRPC client in trailers, and takes a grpc-web client for one of
// HTTP, because the grpc_web filter is not there. `gatehouse explain` tells both.
func TestARefusalIsAnsweredInTheWordsOfTheClient(t *testing.T) {
	g := sharedGate(t)
	for _, c := range []struct {
		name, token, method, path string
		http                      int
		rpc                       string
		body                      string
	}{
		{"no token", "", "POST", "/api/v1/query/x", 401, "16", `{"detail":"Not authenticated"}`},
		{"a refusal", "forbidden", "POST", "/api/v1/query/x", 403, "7", `{"detail":"User is no longer associated with the company in this token."}`},
		{"authz cannot decide", "unavailable", "POST", "/api/v1/query/x", 503, "14", unavailable},
		{"authz broke", "internal", "POST", "/api/v1/query/x", 500, "2", `{"detail":"An internal error occurred during token verification."}`},
		{"authz says nothing", "empty", "POST", "/api/v1/query/x", 503, "14", unavailable},
		{"no route", "allow", "POST", "/nowhere", 404, "12", `{"detail":"Not Found"}`},
		{"another method", "allow", "POST", "/health", 405, "2", `{"detail":"Method Not Allowed"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range []string{"application/json", "application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"} {
				got := g.do(t, c.method, c.path, "Authorization: Bearer "+c.token, "Content-Type: "+kind)
				if got.status != c.http || got.body != c.body || got.header.Get("Content-Type") != "application/json" || got.header.Get("Grpc-Status") != "" {
					t.Errorf("%s: %d %s %v", kind, got.status, got.body, got.header)
				}
			}
			for _, kind := range []string{"application/grpc", "application/grpc+proto"} {
				got := g.do(t, c.method, c.path, "Authorization: Bearer "+c.token, "Content-Type: "+kind)
				if got.status != 200 || got.body != "" || got.header.Get("Content-Type") != "application/grpc" ||
					got.header.Get("Grpc-Status") != c.rpc || got.header.Get("Grpc-Message") != c.body {
					t.Errorf("%s: %d %s %v", kind, got.status, got.body, got.header)
				}
			}
		})
	}
}
