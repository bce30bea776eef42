package login

import (
	"context"
	"encoding/json"
	"net/http"
)

// Keys publishes the public keys of our own.
type Keys interface {
	// JWKS is a JWK set (RFC 7517) in JSON; with shared secrets alone, one
	// without keys.
	JWKS() []byte
}

// jwksCaching lets everybody keep the set for a while: a key is published for
// longer than that before it signs.
const jwksCaching = "public, max-age=300"

// jwks is GET /.well-known/jwks.json.
func (s *Service) jwks(context.Context, *exchange) (answer, error) {
	return answer{status: http.StatusOK, result: "ok", body: json.RawMessage(s.with.Keys.JWKS()), caching: jwksCaching}, nil
}
