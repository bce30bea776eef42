package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/golang-jwt/jwt/v5"
)

// Key is one key with its one algorithm.
//
// What it is made of is held by its two functions and by nothing else, so that
// no fmt verb, at any depth of any struct, can print it.
type Key struct {
	id        string
	algorithm algorithm
	verify    func(signed string, signature []byte) error
	sign      func(signed string) ([]byte, error) // nil: this key only verifies
}

func newKey(id string, a algorithm, verifying any) Key {
	return Key{id: id, algorithm: a, verify: func(signed string, signature []byte) error {
		return a.method.Verify(signed, signature, verifying)
	}}
}

// signingWith returns the key with its other half.
func (k Key) signingWith(private any) Key {
	method := k.algorithm.method
	k.sign = func(signed string) ([]byte, error) { return method.Sign(signed, private) }
	return k
}

// ID is the "kid" of tokens signed with this key.
func (k Key) ID() string { return k.id }

// Algorithm is the "alg" of tokens signed with this key.
func (k Key) Algorithm() string { return k.algorithm.name }

// CanSign reports that this is more than a public key.
func (k Key) CanSign() bool { return k.sign != nil }

// SecretKey makes the key of a shared secret for HS256, HS384 or HS512. How
// long a secret must be is a setting and judged elsewhere; an empty one is
// refused here too.
func SecretKey(secret []byte, alg string) (Key, error) {
	a, err := algorithmNamed(alg)
	if err != nil {
		return Key{}, err
	}
	if a.family != familyHMAC {
		return Key{}, fmt.Errorf("%s does not use a shared secret", alg)
	}
	if len(secret) == 0 {
		return Key{}, errors.New("the secret is empty")
	}
	secret = append([]byte(nil), secret...)
	k := newKey(secretID(secret, alg), a, secret).signingWith(secret)
	if method, ok := a.method.(*jwt.SigningMethodHMAC); ok {
		k.verify = verifyHMAC(method.Hash, secret)
	}
	return k, nil
}

// secretID names a secret without disclosing anything that one of its tokens
// does not: whoever holds a token can test guesses of the secret already.
func secretID(secret []byte, alg string) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, "gatehouse kid "+alg)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:8])
}

// KeySet is the keys that count. It is immutable.
//
// A token that names a key of the set meets that key alone. Every other token
// meets the one key that was made from settings without a name of its own
// (JWT_SECRET, the PEM key) and has the token's algorithm: tokens of the
// replaced gateways name no key, and an issuer whose public key came as PEM
// names it in a way that a PEM does not tell.
type KeySet struct {
	byID     map[string]Key
	unnamed  map[string]Key // by algorithm
	signer   Key
	accepted map[string]bool // algorithms
}

// NewKeySet makes a set of keys that came without names; the first that can
// sign is the one that signs. Two keys of one algorithm are refused, because a
// token without a key id would then meet both; so is one key with two
// algorithms, because its id would then name neither.
func NewKeySet(keys ...Key) (*KeySet, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key")
	}
	set := &KeySet{byID: map[string]Key{}, unnamed: map[string]Key{}, accepted: map[string]bool{}}
	for _, k := range keys {
		if k.verify == nil {
			return nil, errors.New("a key without an algorithm")
		}
		if _, taken := set.unnamed[k.Algorithm()]; taken {
			return nil, fmt.Errorf("two keys for %s", k.Algorithm())
		}
		if _, taken := set.byID[k.id]; taken {
			return nil, errors.New("one key with two algorithms")
		}
		set.byID[k.id] = k
		set.unnamed[k.Algorithm()] = k
		set.accepted[k.Algorithm()] = true
		if k.CanSign() && !set.signer.CanSign() {
			set.signer = k
		}
	}
	return set, nil
}

// Signer is the key that signs, if there is one.
func (s *KeySet) Signer() (Key, bool) { return s.signer, s.signer.CanSign() }

// accepts reports whether any key of the set has the algorithm.
func (s *KeySet) accepts(alg string) bool { return s.accepted[alg] }

// find returns the one key that a token with this header may be verified with.
func (s *KeySet) find(kid, alg string) (Key, bool) {
	k, named := s.byID[kid]
	if !named {
		k, named = s.unnamed[alg]
	}
	return k, named && k.Algorithm() == alg
}

// Sources is key material as settings give it.
type Sources struct {
	// Algorithm is what new tokens are signed with and what the PEM keys are for.
	Algorithm string
	// Secret is used with Algorithm if that is one of HS*, else with HS256, for
	// tokens that were issued before the change to another algorithm.
	Secret []byte
	// PublicPEM verifies. PrivatePEM verifies and signs.
	PublicPEM, PrivatePEM []byte
}

// KeySet makes the set. Where there is no private key, the secret signs, if
// there is one.
func (s Sources) KeySet() (*KeySet, error) {
	a, err := algorithmNamed(s.Algorithm)
	if err != nil {
		return nil, err
	}
	pems := len(s.PublicPEM) > 0 || len(s.PrivatePEM) > 0
	switch {
	case a.family == familyHMAC && pems:
		return nil, fmt.Errorf("%s uses a shared secret, not a PEM key", s.Algorithm)
	case a.family == familyHMAC && len(s.Secret) == 0:
		return nil, fmt.Errorf("%s needs a shared secret", s.Algorithm)
	case a.family != familyHMAC && !pems:
		return nil, fmt.Errorf("%s needs a PEM public or private key", s.Algorithm)
	}

	var keys []Key
	if len(s.PrivatePEM) > 0 {
		k, err := PrivateKey(s.PrivatePEM, s.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		keys = append(keys, k)
	}
	if len(s.PublicPEM) > 0 {
		k, err := PublicKey(s.PublicPEM, s.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		switch {
		case len(keys) == 0:
			keys = append(keys, k)
		case keys[0].ID() != k.ID():
			return nil, errors.New("the public key does not belong to the private key")
		}
	}
	if len(s.Secret) > 0 {
		alg := "HS256"
		if a.family == familyHMAC {
			alg = s.Algorithm
		}
		k, err := SecretKey(s.Secret, alg)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return NewKeySet(keys...)
}
