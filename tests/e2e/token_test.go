package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"testing"
	"time"
)

// secret signs the tokens of these tests; it protects nothing.
const secret = "test-secret-made-of-obvious-words-for-e2e"

type claims map[string]any

// without and with make a variation of a set of claims.
func (c claims) without(names ...string) claims {
	out := maps.Clone(c)
	for _, n := range names {
		delete(out, n)
	}
	return out
}

func (c claims) with(name string, value any) claims {
	out := maps.Clone(c)
	out[name] = value
	return out
}

// sign writes a token by hand, as an issuer that is not Gatehouse would.
func sign(t testing.TB, header map[string]any, c claims, key string) string {
	t.Helper()
	return signJSON(marshal(t, header), marshal(t, c), key)
}

// token is c in a token as the replaced gateways issued it: HS256, no kid.
func token(t testing.TB, c claims) string {
	t.Helper()
	return sign(t, map[string]any{"alg": "HS256", "typ": "JWT"}, c, secret)
}

func signJSON(header, payload, key string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// claimsOf is a good set for a user.
func claimsOf(u user) claims {
	c := claims{
		"sub":   u.id,
		"email": u.email,
		"iat":   time.Now().Add(-time.Minute).Unix(),
		"exp":   time.Now().Add(time.Hour).Unix(),
	}
	if u.company != "" {
		c["company_id"] = u.company
	}
	return c
}
