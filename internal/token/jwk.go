package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxRSABits bounds what one verification costs; crypto/tls draws the same
	// line.
	maxRSABits = 8192
	// maxKeyID is how long the name of a key may be, in bytes: it stands in
	// every token.
	maxKeyID = 256
)

// jwk is one JSON Web Key: the members of RFC 7517 section 4, RFC 7518 section 6
// and RFC 8037 section 2 that are read. All others are ignored (x5c, x5u and
// their like above all), as RFC 7517 section 4 demands of members that are not
// understood.
type jwk struct {
	Type       string         `json:"kty"`
	ID         *string        `json:"kid"`
	Algorithm  string         `json:"alg"`
	Use        string         `json:"use"`
	Operations []string       `json:"key_ops"`
	Curve      string         `json:"crv"`
	X          *string        `json:"x"`
	Y          *string        `json:"y"`
	N          *string        `json:"n"`
	E          *string        `json:"e"`
	D          *string        `json:"d"`
	P          *string        `json:"p"`
	Q          *string        `json:"q"`
	K          *string        `json:"k"`
	Other      jsontext.Value `json:"oth"`
}

// readJWK's errors name members and never repeat what stands in them.
func readJWK(text []byte) (*jwk, error) {
	j := &jwk{}
	if jsontext.Value(text).Kind() != '{' {
		return nil, errors.New("is no JSON object")
	}
	err := json.Unmarshal(text, j)
	if wrong, ok := errors.AsType[*json.SemanticError](err); ok {
		// A pointer into a struct holds names of its fields and numbers alone.
		return nil, fmt.Errorf("%s is not of its type", strings.TrimPrefix(string(wrong.JSONPointer), "/"))
	}
	if err != nil {
		return nil, errors.New("is not strict JSON")
	}
	return j, nil
}

// signs reports that the key is marked as the one that signs.
func (j *jwk) signs() bool { return slices.Contains(j.Operations, "sign") }

// forSignatures reports that nothing forbids to verify signatures with it.
func (j *jwk) forSignatures() bool {
	return (j.Use == "" || j.Use == "sig") && (j.Operations == nil || j.signs() || slices.Contains(j.Operations, "verify"))
}

// isPrivate reports members that only an owner may know.
func (j *jwk) isPrivate() bool { return j.D != nil || j.P != nil || j.Q != nil || j.Other != nil }

// key makes the key, for the algorithm named, which is the JWK's own unless the
// caller knows better. With its private half it can sign.
func (j *jwk) key(alg string) (Key, error) {
	a, err := algorithmNamed(alg)
	switch {
	case alg == "":
		return Key{}, errors.New("alg is missing")
	case err != nil:
		return Key{}, errors.New("alg names no algorithm that is known here")
	case j.ID != nil && (*j.ID == "" || len(*j.ID) > maxKeyID):
		return Key{}, fmt.Errorf("kid is empty or longer than %d bytes", maxKeyID)
	case !j.forSignatures():
		return Key{}, errors.New("use or key_ops do not let it verify signatures")
	}
	var k Key
	switch {
	case j.Type == "oct" && a.family == familyHMAC:
		k, err = j.octets(a)
	case j.Type == "RSA" && a.family == familyRSA:
		k, err = j.rsa(a)
	case j.Type == "EC" && a.family == familyECDSA:
		k, err = j.ec(a)
	case j.Type == "OKP" && a.family == familyEd25519:
		k, err = j.ed25519(a)
	case j.Type == "":
		return Key{}, errors.New("kty is missing")
	default:
		return Key{}, errors.New("kty and alg do not belong together")
	}
	if err != nil {
		return Key{}, err
	}
	if j.ID != nil {
		k.id = *j.ID
	}
	return k, nil
}

func (j *jwk) octets(a algorithm) (Key, error) {
	secret, err := octets("k", j.K)
	if err != nil {
		return Key{}, err
	}
	// RFC 7518 section 3.2: "A key of the same size as the hash output or larger".
	if least := a.hashBytes(); len(secret) < least {
		return Key{}, fmt.Errorf("k is shorter than the %d bytes that its alg needs", least)
	}
	return newKey(octThumbprint(secret), a, secret).signingWith(secret), nil
}

// octThumbprint is RFC 7638 for a shared secret. It is not for the outside: whoever
// has it can test guesses.
func octThumbprint(secret []byte) string {
	sum := sha256.Sum256([]byte(`{"k":"` + base64.RawURLEncoding.EncodeToString(secret) + `","kty":"oct"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (j *jwk) rsa(a algorithm) (Key, error) {
	n, err := natural("n", j.N)
	if err != nil {
		return Key{}, err
	}
	e, err := natural("e", j.E)
	switch {
	case err != nil:
		return Key{}, err
	case n.BitLen() < minRSABits || n.BitLen() > maxRSABits:
		return Key{}, fmt.Errorf("n has %d bits, %d to %d are accepted", n.BitLen(), minRSABits, maxRSABits)
	case n.Bit(0) == 0:
		return Key{}, errors.New("n is even")
	case e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0:
		return Key{}, errors.New("e is not an odd number from 3 to 2147483647")
	}
	public := &rsa.PublicKey{N: n, E: int(e.Int64())}
	k, err := verifying(public, a)
	if err != nil || !j.isPrivate() {
		return k, err
	}
	private, err := j.rsaPrivate(*public)
	if err != nil {
		return Key{}, err
	}
	return k.signingWith(private), nil
}

// rsaPrivate computes dp, dq and qi anew: what a file says of them could be
// wrong and would then show in signatures.
func (j *jwk) rsaPrivate(public rsa.PublicKey) (*rsa.PrivateKey, error) {
	if j.Other != nil {
		return nil, errors.New("oth: keys of more than two primes are not accepted")
	}
	var parts [3]*big.Int
	for i, part := range []struct {
		name string
		text *string
	}{{"d", j.D}, {"p", j.P}, {"q", j.Q}} {
		number, err := natural(part.name, part.text)
		if err != nil {
			return nil, err
		}
		if number.BitLen() > maxRSABits {
			return nil, errPrivateHalf
		}
		parts[i] = number
	}
	private := &rsa.PrivateKey{PublicKey: public, D: parts[0], Primes: parts[1:]}
	if private.Validate() != nil {
		return nil, errPrivateHalf
	}
	private.Precompute()
	return private, nil
}

func (j *jwk) ec(a algorithm) (Key, error) {
	if want := a.curve.Params().Name; j.Curve != want {
		return Key{}, fmt.Errorf("crv is not %s, which its alg needs", want)
	}
	// RFC 7518 section 6.2.1.2: as long as the curve's coordinates, always.
	size := (a.curve.Params().BitSize + 7) / 8
	x, err := octetsOf(size, "x", j.X)
	if err != nil {
		return Key{}, err
	}
	y, err := octetsOf(size, "y", j.Y)
	if err != nil {
		return Key{}, err
	}
	public, err := ecdsa.ParseUncompressedPublicKey(a.curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return Key{}, errors.New("x and y are no point of the curve")
	}
	k, err := verifying(public, a)
	if err != nil || j.D == nil {
		return k, err
	}
	d, err := octetsOf(size, "d", j.D)
	if err != nil {
		return Key{}, err
	}
	private, err := ecdsa.ParseRawPrivateKey(a.curve, d)
	if err != nil || !private.PublicKey.Equal(public) {
		return Key{}, errPrivateHalf
	}
	return k.signingWith(private), nil
}

func (j *jwk) ed25519(a algorithm) (Key, error) {
	if j.Curve != "Ed25519" {
		return Key{}, errors.New("crv is not Ed25519, which its alg needs")
	}
	x, err := octetsOf(ed25519.PublicKeySize, "x", j.X)
	if err != nil {
		return Key{}, err
	}
	if smallOrder(x) {
		return Key{}, errors.New("x is a point under which anybody can sign")
	}
	k, err := verifying(ed25519.PublicKey(x), a)
	if err != nil || j.D == nil {
		return k, err
	}
	seed, err := octetsOf(ed25519.SeedSize, "d", j.D)
	if err != nil {
		return Key{}, err
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !bytes.Equal(private[ed25519.SeedSize:], x) {
		return Key{}, errPrivateHalf
	}
	return k.signingWith(private), nil
}

var errPrivateHalf = errors.New("the private half does not belong to the public one")

// smallOrder knows the points of edwards25519 whose order divides 8, in every
// encoding that a verifier may take. For such a key there are signatures that
// hold for any message, and nobody needs a private key to make them.
func smallOrder(x []byte) bool {
	masked := bytes.Clone(x)
	masked[len(masked)-1] &= 0x7f // the sign
	switch hex.EncodeToString(masked) {
	case "0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f":
		return true
	}
	return false
}

// octets reads base64url without padding in its one spelling.
func octets(name string, text *string) ([]byte, error) {
	if text == nil || *text == "" {
		return nil, fmt.Errorf("%s is missing", name)
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(*text)
	if err != nil || strings.ContainsAny(*text, "\r\n") {
		return nil, fmt.Errorf("%s is not strict base64url", name)
	}
	return decoded, nil
}

func octetsOf(size int, name string, text *string) ([]byte, error) {
	decoded, err := octets(name, text)
	if err == nil && len(decoded) != size {
		err = fmt.Errorf("%s has %d bytes instead of %d", name, len(decoded), size)
	}
	return decoded, err
}

// natural reads a Base64urlUInt. A zero in front of it, which RFC 7518 section 2
// forbids and some writers leave there, changes neither the number nor the
// thumbprint.
func natural(name string, text *string) (*big.Int, error) {
	decoded, err := octets(name, text)
	if err != nil {
		return nil, err
	}
	return new(big.Int).SetBytes(decoded), nil
}

// algorithmOf is the algorithm of a published key that does not name its own,
// where the kind of key leaves no choice. For RSA it does.
func (j *jwk) algorithmOf() string {
	if j.Algorithm != "" {
		return j.Algorithm
	}
	switch {
	case j.Type == "OKP" && j.Curve == "Ed25519":
		return "EdDSA"
	case j.Type == "EC" && j.Curve == elliptic.P256().Params().Name:
		return "ES256"
	case j.Type == "EC" && j.Curve == elliptic.P384().Params().Name:
		return "ES384"
	case j.Type == "EC" && j.Curve == elliptic.P521().Params().Name:
		return "ES512"
	}
	return ""
}

// publicJWK is a key as it may be published: the members in the order of RFC
// 7638, with the name, the algorithm and the purpose.
type publicJWK struct {
	Curve     string `json:"crv,omitzero"`
	E         string `json:"e,omitzero"`
	Type      string `json:"kty"`
	N         string `json:"n,omitzero"`
	X         string `json:"x,omitzero"`
	Y         string `json:"y,omitzero"`
	ID        string `json:"kid,omitzero"`
	Algorithm string `json:"alg,omitzero"`
	Use       string `json:"use,omitzero"`
}

// publicMembers are those that RFC 7638 section 3.2 and RFC 8037 section 2
// require of a public key.
func publicMembers(public any) (publicJWK, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	switch p := public.(type) {
	case *rsa.PublicKey:
		return publicJWK{Type: "RSA", N: b64(p.N.Bytes()), E: b64(big.NewInt(int64(p.E)).Bytes())}, nil
	case *ecdsa.PublicKey:
		point, err := p.Bytes() // SEC 1 section 2.3.3, uncompressed: 4, x, y
		if err != nil {
			return publicJWK{}, fmt.Errorf("reading the point of an EC key: %w", err)
		}
		half := (len(point) - 1) / 2
		return publicJWK{Type: "EC", Curve: p.Curve.Params().Name, X: b64(point[1 : 1+half]), Y: b64(point[1+half:])}, nil
	case ed25519.PublicKey:
		return publicJWK{Type: "OKP", Curve: "Ed25519", X: b64(p)}, nil
	}
	return publicJWK{}, fmt.Errorf("a key of type %T has no public form", public)
}

// thumbprint is RFC 7638 section 3 with SHA-256.
func (p publicJWK) thumbprint() (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("writing a key: %w", err)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
