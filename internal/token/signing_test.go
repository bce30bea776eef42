package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atenex/gatehouse/internal/token"
)

const (
	secret      = "test-secret-made-of-obvious-words-for-gatehouse"
	otherSecret = "test-secret-that-nobody-configured-anywhere-at-all"

	user    = "0a0a0a0a-1111-4222-8333-444444444444"
	company = "0b0b0b0b-1111-4222-8333-444444444444"
	session = "0c0c0c0c-1111-4222-8333-444444444444"
)

var now = time.Unix(1_800_000_000, 0).UTC()

// b64 is the one spelling that a token part may have.
func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signed makes a token of any header and payload text whatever.
func signed(t testing.TB, alg string, key any, header, payload string) string {
	t.Helper()
	input := b64(header) + "." + b64(payload)
	signature, err := jwt.GetSigningMethod(alg).Sign(input, key)
	if err != nil {
		t.Fatalf("signing with %s: %v", alg, err)
	}
	return input + "." + b64(string(signature))
}

// hs256 is signed with the secret that the verifiers of these tests know.
func hs256(t testing.TB, payload string) string {
	t.Helper()
	return signed(t, "HS256", []byte(secret), `{"alg":"HS256","typ":"JWT"}`, payload)
}

func native(members string) string {
	return fmt.Sprintf(`{"sub":%q,"exp":%d%s}`, user, now.Unix()+3600, members)
}

// pair is a private key in Go's and in PEM form.
type pair struct {
	private            crypto.Signer
	privatePEM, pubPEM []byte
}

func newPair(t testing.TB, alg string) pair {
	t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsaKey()
	}
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pair{private, block("PRIVATE KEY", pkcs8), block("PUBLIC KEY", pkix)}
}

// rsaKey is made once: it takes seconds under the race detector.
var rsaKey = sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func keySet(t testing.TB, s token.Sources) *token.KeySet {
	t.Helper()
	set, err := s.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func secretSet(t testing.TB) *token.KeySet {
	t.Helper()
	return keySet(t, token.Sources{Algorithm: "HS256", Secret: []byte(secret)})
}

func verifier(t testing.TB, rules token.Rules) *token.Verifier {
	t.Helper()
	if rules.Keys == nil {
		rules.Keys = secretSet(t)
	}
	v, err := token.NewVerifier(rules)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
