package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"testing"
)

// signWith signs as an issuer with a key pair does.
func signWith(t *testing.T, key crypto.Signer, header map[string]any, c claims) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(marshal(t, header))) + "." + b64([]byte(marshal(t, c)))
	digest := sha256.Sum256([]byte(signed))
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, k, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, 64) // RFC 7518 section 3.4
		r.FillBytes(raw[:32])
		s.FillBytes(raw[32:])
		return signed + "." + b64(raw)
	}
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}

func publicPEM(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func privatePEM(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// A key pair, and authz behind a socket in the file system.
func TestAKeyPairIsNoSecret(t *testing.T) {
	t.Parallel()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := publicPEM(t, own)
	s := startStack(t, map[string]string{
		"GATEWAY_JWT_SECRET":      "",
		"GATEWAY_JWT_ALGORITHM":   "ES256",
		"GATEWAY_JWT_PRIVATE_KEY": privatePEM(t, own),
		"GATEWAY_AUTHZ_LISTEN":    "unix://" + filepath.Join(t.TempDir(), "authz.sock"),
	})
	u := s.withPassword(s.newMember())
	c := claimsOf(u)
	header := map[string]any{"alg": "ES256"}
	for _, test := range []struct {
		name, token string
		want        refusal
	}{
		{"the key", signWith(t, own, header, c), accepted},
		{"another key", signWith(t, foreign, header, c), wrongSignature},
		{"another key of its own", signWith(t, foreign, map[string]any{"alg": "ES256", "jwk": map[string]any{"kty": "EC"}, "jku": "http://" + s.address}, c), wrongSignature},
		{"RS256", signWith(t, other, map[string]any{"alg": "RS256"}, c), malformed},
		{"the public key as a secret", sign(t, map[string]any{"alg": "HS256"}, c, public), malformed},
		{"the public key as a secret, no line end", sign(t, map[string]any{"alg": "HS256"}, c, public[:len(public)-1]), malformed},
		{"the secret of other tests", token(t, c), malformed},
		{"an HMAC that says ES256", sign(t, header, c, public), wrongSignature},
		{"none", sign(t, map[string]any{"alg": "none"}, c, ""), malformed},
	} {
		t.Run(test.name, func(t *testing.T) { s.decide(t, test.token, test.want) })
	}
	t.Run("no signature of zeros", func(t *testing.T) {
		good := signWith(t, own, header, c)
		s.decide(t, good[:len(good)-86]+base64.RawURLEncoding.EncodeToString(make([]byte, 64)), wrongSignature)
	})
	t.Run("login signs with it", func(t *testing.T) {
		s := s.in(t)
		raw := s.logIn(u)
		s.decide(t, raw, accepted)
		again := s.ensure(raw, "")
		if err := again.is(http.StatusOK); err != nil {
			t.Fatal(err)
		}
		s.decide(t, again.field(t, "new_access_token"), accepted)
	})
}
