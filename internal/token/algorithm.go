package token

import (
	"crypto/elliptic"
	// golang-jwt looks its hashes up in package crypto's table; without these
	// imports HS512 is "unavailable" in a binary that nothing else links it into.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// family is the kind of key that an algorithm takes. Keys are made for one
// family, so that no public key can ever be used as an HMAC secret.
type family int

const (
	familyHMAC family = iota + 1
	familyRSA
	familyECDSA
	familyEd25519
)

// algorithm is one row of RFC 7518 section 3.1 or RFC 8037 section 3.1.
type algorithm struct {
	name   string
	family family
	method jwt.SigningMethod
	curve  elliptic.Curve // familyECDSA only
}

// algorithmNamed knows every algorithm that can be configured. "none" is not
// one of them.
func algorithmNamed(name string) (algorithm, error) {
	switch name {
	case "HS256":
		return algorithm{name: name, family: familyHMAC, method: jwt.SigningMethodHS256}, nil
	case "HS384":
		return algorithm{name: name, family: familyHMAC, method: jwt.SigningMethodHS384}, nil
	case "HS512":
		return algorithm{name: name, family: familyHMAC, method: jwt.SigningMethodHS512}, nil
	case "RS256":
		return algorithm{name: name, family: familyRSA, method: jwt.SigningMethodRS256}, nil
	case "RS384":
		return algorithm{name: name, family: familyRSA, method: jwt.SigningMethodRS384}, nil
	case "RS512":
		return algorithm{name: name, family: familyRSA, method: jwt.SigningMethodRS512}, nil
	case "PS256":
		return algorithm{name: name, family: familyRSA, method: jwt.SigningMethodPS256}, nil
	case "PS384":
		return algorithm{name: name, family: familyRSA, method: jwt.SigningMethodPS384}, nil
	case "PS512":
		return algorithm{name: name, family: familyRSA, method: jwt.SigningMethodPS512}, nil
	case "ES256":
		return algorithm{name: name, family: familyECDSA, method: jwt.SigningMethodES256, curve: elliptic.P256()}, nil
	case "ES384":
		return algorithm{name: name, family: familyECDSA, method: jwt.SigningMethodES384, curve: elliptic.P384()}, nil
	case "ES512":
		return algorithm{name: name, family: familyECDSA, method: jwt.SigningMethodES512, curve: elliptic.P521()}, nil
	case "EdDSA":
		return algorithm{name: name, family: familyEd25519, method: jwt.SigningMethodEdDSA}, nil
	default:
		return algorithm{}, fmt.Errorf("unknown signature algorithm %q", name)
	}
}

// hashBytes is the size of an HMAC's hash, below which its key is weak.
func (a algorithm) hashBytes() int {
	if h, ok := a.method.(*jwt.SigningMethodHMAC); ok {
		return h.Hash.Size()
	}
	return 0
}
