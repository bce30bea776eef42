package token

import (
	"strings"

	"github.com/atenex/gatehouse/internal/problem"
)

// Bearer takes the token out of the Authorization header fields of a request
// (RFC 6750 section 2.1): exactly one field, the scheme in any case, one or
// more spaces, the token. Everything else is problem.NotAuthenticated; the
// token itself is not judged.
//
// Envoy hands two fields over as one value with a comma between them. No token
// contains a comma, so that a comma anywhere means that there were two.
func Bearer(values []string) (string, error) {
	if len(values) != 1 || strings.ContainsRune(values[0], ',') {
		return "", problem.NotAuthenticated
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	raw := strings.TrimLeft(rest, " ")
	if !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return "", problem.NotAuthenticated
	}
	return raw, nil
}
