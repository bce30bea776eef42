package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

var algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

func sourcesFor(t testing.TB, alg string) token.Sources {
	t.Helper()
	if strings.HasPrefix(alg, "HS") {
		return token.Sources{Algorithm: alg, Secret: []byte(secret)}
	}
	return token.Sources{Algorithm: alg, PrivatePEM: newPair(t, alg).privatePEM}
}

func TestEveryAlgorithmVerifiesWhatItSignedAndNothingAltered(t *testing.T) {
	id, _ := identity.ParseUserID(user)
	for _, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			rules := token.Rules{Keys: keySet(t, sourcesFor(t, alg))}
			issuer, err := token.NewIssuer(rules, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			minted, err := issuer.Issue(token.Grant{User: id}, now)
			if err != nil {
				t.Fatal(err)
			}
			v := verifier(t, rules)
			if _, err := v.Verify(minted.Token, now); err != nil {
				t.Fatalf("refused: %v", err)
			}
			everyAlteration(minted.Token, alphabetFor(alg), strideFor(alg), func(altered string) {
				if _, err := v.Verify(altered, now); err == nil {
					t.Errorf("accepted with an alteration: %q", altered)
				}
			})
		})
	}
}

// alphabetFor is everything a character can become where a verification costs
// a microsecond, and its nearest neighbours where it costs hundreds.
func alphabetFor(alg string) string {
	if alg == "HS256" {
		return "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/.\n "
	}
	return "AB"
}

// strideFor is 1 for every character of a token, and more where one verification
// takes the race detector tens of milliseconds.
func strideFor(alg string) int {
	switch alg {
	case "ES384":
		return 3
	case "ES512":
		return 5
	default:
		return 1
	}
}

// everyAlteration calls try with raw changed in one place, in one of so many.
func everyAlteration(raw, alphabet string, stride int, try func(string)) {
	for i := 0; i < len(raw); i += stride {
		for _, c := range []byte(alphabet) {
			if raw[i] != c {
				try(raw[:i] + string(c) + raw[i+1:])
			}
		}
	}
	last := raw[len(raw)-1]
	for delta := byte(1); delta < 4; delta++ { // the bits that no byte needs
		try(raw[:len(raw)-1] + string(last+delta))
		try(raw[:len(raw)-1] + string(last-delta))
	}
	try(raw + "A")
	try(raw[:len(raw)-1])
}

func TestATokenMeetsOneKeyAlone(t *testing.T) {
	rsaPair := newPair(t, "RS256")
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	both := keySet(t, token.Sources{Algorithm: "RS256", PublicPEM: rsaPair.pubPEM, Secret: []byte(secret)})
	rsaKey, err := token.PublicKey(rsaPair.pubPEM, "RS256")
	if err != nil {
		t.Fatal(err)
	}
	secretKey, err := token.SecretKey([]byte(secret), "HS256")
	if err != nil {
		t.Fatal(err)
	}
	header := func(alg, kid string) string { return fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid) }

	cases := []struct {
		name   string
		alg    string
		key    any
		header string
		want   error
	}{
		{"the PEM key, named", "RS256", rsaPair.private, header("RS256", rsaKey.ID()), nil},
		{"the PEM key, not named", "RS256", rsaPair.private, `{"alg":"RS256"}`, nil},
		{"the PEM key under the issuer's own name for it", "RS256", rsaPair.private, header("RS256", "1111"), nil},
		{"the secret, named", "HS256", []byte(secret), header("HS256", secretKey.ID()), nil},
		{"the secret, not named", "HS256", []byte(secret), `{"alg":"HS256"}`, nil},
		{"the secret under another name", "HS256", []byte(secret), header("HS256", "1111"), nil},
		{"another RSA key", "RS256", stranger, `{"alg":"RS256"}`, problem.TokenSignature},
		{"another RSA key with our key's name", "RS256", stranger, header("RS256", rsaKey.ID()), problem.TokenSignature},
		{"the secret with the RSA key's name", "HS256", []byte(secret), header("HS256", rsaKey.ID()), problem.TokenSignature},
		{"the RSA key with the secret's name", "RS256", rsaPair.private, header("RS256", secretKey.ID()), problem.TokenSignature},
		{"the public PEM as an HMAC secret", "HS256", rsaPair.pubPEM, `{"alg":"HS256"}`, problem.TokenSignature},
		{"the public PEM as an HMAC secret, named", "HS256", rsaPair.pubPEM, header("HS256", rsaKey.ID()), problem.TokenSignature},
		{"the RSA key with another RSA algorithm", "PS256", rsaPair.private, `{"alg":"PS256"}`, problem.TokenMalformed},
		{"an RS256 signature said to be PS256", "RS256", rsaPair.private, `{"alg":"PS256"}`, problem.TokenMalformed},
	}
	v := verifier(t, token.Rules{Keys: both})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := v.Verify(signed(t, c.alg, c.key, c.header, native("")), now); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestECDSASignaturesHaveOneLength(t *testing.T) {
	pair := newPair(t, "ES256")
	v := verifier(t, token.Rules{Keys: keySet(t, token.Sources{Algorithm: "ES256", PublicPEM: pair.pubPEM})})
	input := b64(`{"alg":"ES256"}`) + "." + b64(native(""))
	raw, err := jwt.SigningMethodES256.Sign(input, pair.private)
	if err != nil {
		t.Fatal(err)
	}
	sum := crypto.SHA256.New()
	sum.Write([]byte(input))
	der, err := ecdsa.SignASN1(rand.Reader, pair.private.(*ecdsa.PrivateKey), sum.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	r, s := raw[:32], raw[32:]
	cases := []struct {
		name      string
		signature []byte
		want      error
	}{
		{"r and s of 32 bytes each", raw, nil},
		{"ASN.1", der, problem.TokenSignature},
		{"a leading zero in front of r", append([]byte{0}, raw...), problem.TokenSignature},
		{"a leading zero in front of both", append(append([]byte{0}, r...), append([]byte{0}, s...)...), problem.TokenSignature},
		{"all zero", make([]byte, 64), problem.TokenSignature},
		{"nothing", nil, problem.TokenSignature},
		{"s larger than the order of the curve", append(append([]byte{}, r...), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)).Bytes()...), problem.TokenSignature},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := v.Verify(input+"."+b64(string(c.signature)), now); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestKeyMaterialThatCannotBeMeantIsRefused(t *testing.T) {
	rs, es, ed := newPair(t, "RS256"), newPair(t, "ES256"), newPair(t, "EdDSA")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	shortPEM := block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&short.PublicKey))
	sec1, err := x509.MarshalECPrivateKey(es.private.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	rsaPrivate := rs.private.(*rsa.PrivateKey)
	words := []byte(secret)

	cases := []struct {
		name    string
		sources token.Sources
		want    string // part of the error; empty: accepted
	}{
		{"PKCS #1 public", token.Sources{Algorithm: "RS256", PublicPEM: block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaPrivate.PublicKey))}, ""},
		{"PKCS #1 private", token.Sources{Algorithm: "PS512", PrivatePEM: block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaPrivate))}, ""},
		{"SEC 1", token.Sources{Algorithm: "ES256", PrivatePEM: block("EC PRIVATE KEY", sec1)}, ""},
		{"SEC 1 behind its parameters", token.Sources{Algorithm: "ES256", PrivatePEM: append(block("EC PARAMETERS", []byte{6, 0}), block("EC PRIVATE KEY", sec1)...)}, ""},
		{"both halves of one key", token.Sources{Algorithm: "EdDSA", PublicPEM: ed.pubPEM, PrivatePEM: ed.privatePEM}, ""},
		{"line ends written as \\n", token.Sources{Algorithm: "EdDSA", PublicPEM: []byte(strings.ReplaceAll(string(ed.pubPEM), "\n", `\n`))}, ""},
		{"no algorithm", token.Sources{Secret: words}, `unknown signature algorithm ""`},
		{"none", token.Sources{Algorithm: "none", Secret: words}, `unknown signature algorithm "none"`},
		{"HS256 without a secret", token.Sources{Algorithm: "HS256"}, "needs a shared secret"},
		{"HS256 with a PEM", token.Sources{Algorithm: "HS256", Secret: words, PublicPEM: rs.pubPEM}, "not a PEM key"},
		{"RS256 with a secret alone", token.Sources{Algorithm: "RS256", Secret: words}, "needs a PEM"},
		{"a short RSA key", token.Sources{Algorithm: "RS256", PublicPEM: shortPEM}, "1024 bits is too short"},
		{"an RSA key for ES256", token.Sources{Algorithm: "ES256", PublicPEM: rs.pubPEM}, "RSA key cannot be used with ES256"},
		{"an EC key for RS256", token.Sources{Algorithm: "RS256", PublicPEM: es.pubPEM}, "EC key cannot be used with RS256"},
		{"an Ed25519 key for RS256", token.Sources{Algorithm: "RS256", PrivatePEM: ed.privatePEM}, "Ed25519 key cannot be used with RS256"},
		{"a P-256 key for ES384", token.Sources{Algorithm: "ES384", PublicPEM: es.pubPEM}, "needs a key on P-384, this one is on P-256"},
		{"a private key as the public one", token.Sources{Algorithm: "RS256", PublicPEM: rs.privatePEM}, "this is a private key"},
		{"a public key as the private one", token.Sources{Algorithm: "RS256", PrivatePEM: rs.pubPEM}, "this is a public key"},
		{"a certificate", token.Sources{Algorithm: "RS256", PublicPEM: block("CERTIFICATE", []byte{1})}, "certificate"},
		{"an encrypted key", token.Sources{Algorithm: "RS256", PrivatePEM: block("ENCRYPTED PRIVATE KEY", []byte{1})}, "encrypted"},
		{"two public keys", token.Sources{Algorithm: "EdDSA", PublicPEM: append(append([]byte{}, ed.pubPEM...), ed.pubPEM...)}, "more than one PEM block"},
		{"something after the key", token.Sources{Algorithm: "EdDSA", PublicPEM: append(append([]byte{}, ed.pubPEM...), "x"...)}, "something after"},
		{"no PEM", token.Sources{Algorithm: "EdDSA", PublicPEM: []byte("not a key")}, "no PEM block"},
		{"a PEM of garbage", token.Sources{Algorithm: "EdDSA", PublicPEM: block("PUBLIC KEY", []byte{1, 2})}, "no readable public key"},
		{"halves of two keys", token.Sources{Algorithm: "EdDSA", PublicPEM: newPair(t, "EdDSA").pubPEM, PrivatePEM: ed.privatePEM}, "does not belong"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.sources.KeySet()
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestOnlyOneKeyPerAlgorithmAndOneAlgorithmPerKey(t *testing.T) {
	a, _ := token.SecretKey([]byte(secret), "HS256")
	b, _ := token.SecretKey([]byte(otherSecret), "HS256")
	if _, err := token.NewKeySet(a, b); err == nil {
		t.Error("a token without a key id would meet two keys")
	}
	pair := newPair(t, "RS256")
	rs, _ := token.PublicKey(pair.pubPEM, "RS256")
	ps, _ := token.PublicKey(pair.pubPEM, "PS256")
	if _, err := token.NewKeySet(rs, ps); err == nil {
		t.Error("one key has two algorithms")
	}
	if _, err := token.NewKeySet(token.Key{}); err == nil {
		t.Error("the zero key was taken")
	}
}

func TestTheThumbprintIsTheOneOfRFC7638(t *testing.T) {
	// The key and the result of RFC 8037 appendix A.
	spki := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00},
		0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
		0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a)
	k, err := token.PublicKey(block("PUBLIC KEY", spki), "EdDSA")
	if err != nil {
		t.Fatal(err)
	}
	if want := "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; k.ID() != want {
		t.Errorf("got %s, want %s", k.ID(), want)
	}
}

func TestKeysPrintNothingThatTheyAreMadeOf(t *testing.T) {
	k, err := token.SecretKey([]byte(secret), "HS256")
	if err != nil {
		t.Fatal(err)
	}
	set := secretSet(t)
	raw := fmt.Sprint([]byte(secret))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, text := range []string{fmt.Sprintf(verb, k), fmt.Sprintf(verb, set), fmt.Sprintf(verb, *set)} {
			if strings.Contains(text, "obvious") || strings.Contains(text, strings.Trim(raw, "[]")) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
				t.Errorf("%s prints the secret: %s", verb, text)
			}
		}
	}
}
