package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"

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

	public   *publicJWK // nil: a shared secret
	material string     // equal for one key under two names; no secret
	origin   Origin
	counted  func() // a token was accepted; nil: nobody counts
}

// Origin is where a key came from, for those who count which are in use.
type Origin string

// The origins.
const (
	OriginSecret  Origin = "secret"  // JWT_SECRET
	OriginPEM     Origin = "pem"     // JWT_PUBLIC_KEY, JWT_PRIVATE_KEY
	OriginSet     Origin = "set"     // JWT_KEYS
	OriginFetched Origin = "fetched" // JWT_JWKS_URL
)

// newKey's id must tell any two keys apart: it is the material too.
func newKey(id string, a algorithm, verifying any) Key {
	k := Key{id: id, algorithm: a, material: id, origin: OriginPEM, verify: func(signed string, signature []byte) error {
		return a.method.Verify(signed, signature, verifying)
	}}
	if method, ok := a.method.(*jwt.SigningMethodHMAC); ok {
		if secret, ok := verifying.([]byte); ok {
			k.verify = verifyHMAC(method.Hash, secret)
		}
	}
	return k
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

// Origin is where the key came from.
func (k Key) Origin() Origin { return k.origin }

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
	k.origin, k.material = OriginSecret, octThumbprint(secret)
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
// names it in a way that a PEM does not tell. Beside a JWK set there is no PEM
// key, so that there such a token meets JWT_SECRET alone.
type KeySet struct {
	keys     []Key // in the order of the settings, fetched ones last
	byID     map[string]Key
	unnamed  map[string]Key // by algorithm
	signer   Key
	accepted map[string]bool // algorithms

	// remote: another issuer's keys are fetched, and the next fetch may bring any
	// public key. fetched: they were, once at least.
	remote, fetched bool
}

func emptySet() *KeySet {
	return &KeySet{byID: map[string]Key{}, unnamed: map[string]Key{}, accepted: map[string]bool{}}
}

// NewKeySet makes a set of keys that came without names; the first that can
// sign is the one that signs. Two keys of one algorithm are refused, because a
// token without a key id would then meet both; so is one key with two
// algorithms, because its id would then name neither.
func NewKeySet(keys ...Key) (*KeySet, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key")
	}
	set := emptySet()
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
		set.add(k)
		if k.CanSign() && !set.signer.CanSign() {
			set.signer = k
		}
	}
	return set, nil
}

func (s *KeySet) add(k Key) {
	s.keys = append(s.keys, k)
	s.accepted[k.Algorithm()] = true
}

// Fetched returns the set with the keys of another issuer in the place of those
// fetched before. A key whose name is that of a key of our own is not taken: it
// would turn our tokens away.
func (s *KeySet) Fetched(keys []Key) (set *KeySet, taken int) {
	set = emptySet()
	set.signer, set.remote, set.fetched = s.signer, true, true
	for alg, k := range s.unnamed {
		set.unnamed[alg] = k
	}
	for id, k := range s.byID {
		if k.origin != OriginFetched {
			set.byID[id] = k
		}
	}
	for _, k := range s.keys {
		if k.origin != OriginFetched {
			set.add(k)
		}
	}
	for _, k := range keys {
		if _, ours := set.byID[k.id]; !ours {
			set.byID[k.id] = k
			set.add(k)
			taken++
		}
	}
	return set, taken
}

// VerifyOnly returns the set without what signs, for those who only verify.
func (s *KeySet) VerifyOnly() *KeySet {
	set := *s
	set.signer = Key{}
	set.keys = make([]Key, len(s.keys))
	set.byID, set.unnamed = make(map[string]Key, len(s.byID)), make(map[string]Key, len(s.unnamed))
	for i, k := range s.keys {
		k.sign = nil
		set.keys[i] = k
	}
	for id, k := range s.byID {
		k.sign = nil
		set.byID[id] = k
	}
	for alg, k := range s.unnamed {
		k.sign = nil
		set.unnamed[alg] = k
	}
	return &set
}

// Counted returns the set with a counter for each key, which is called for every
// token that the key verified and that was accepted.
func (s *KeySet) Counted(counter func(Key) func()) *KeySet {
	set := *s
	byMaterial := make(map[string]func(), len(s.keys))
	set.keys = make([]Key, len(s.keys))
	set.byID, set.unnamed = make(map[string]Key, len(s.byID)), make(map[string]Key, len(s.unnamed))
	for i, k := range s.keys {
		k.counted = counter(k)
		byMaterial[string(k.origin)+k.id] = k.counted
		set.keys[i] = k
	}
	for id, k := range s.byID {
		k.counted = byMaterial[string(k.origin)+k.id]
		set.byID[id] = k
	}
	for alg, k := range s.unnamed {
		k.counted = byMaterial[string(k.origin)+k.id]
		set.unnamed[alg] = k
	}
	return &set
}

// Keys are the keys of the set, in the order of the settings.
func (s *KeySet) Keys() []Key { return slices.Clone(s.keys) }

// Signer is the key that signs, if there is one.
func (s *KeySet) Signer() (Key, bool) { return s.signer, s.signer.CanSign() }

// accepts reports whether a token with this algorithm can be meant for this set.
func (s *KeySet) accepts(alg string) bool { return s.accepted[alg] || s.remote && isPublic(alg) }

// find returns the one key that a token with this header may be verified with.
func (s *KeySet) find(kid, alg string) (Key, bool) {
	k, named := s.byID[kid]
	if !named {
		k, named = s.unnamed[alg]
	}
	return k, named && k.Algorithm() == alg
}

// mayCome reports whether a fetch can bring the key that was not found: not one
// without a name, for which there is only the secret, and not one that has a
// name already.
func (s *KeySet) mayCome(kid, alg string) bool {
	_, named := s.byID[kid]
	return s.remote && kid != "" && !named && isPublic(alg)
}

// isPublic reports an algorithm whose keys can be published.
func isPublic(alg string) bool {
	a, err := algorithmNamed(alg)
	return err == nil && a.family != familyHMAC
}

// Sources is key material as settings give it.
type Sources struct {
	// Algorithm is what new tokens are signed with and what the PEM keys are for.
	// Keys of a JWK set name their own.
	Algorithm string
	// Secret is used with Algorithm if that is one of HS*, else with HS256, for
	// tokens that were issued before the change to another algorithm.
	Secret []byte
	// PublicPEM verifies. PrivatePEM verifies and signs.
	PublicPEM, PrivatePEM []byte
	// JWKSet is the text of a JWK set, whose one key with key_ops ["sign"] signs.
	JWKSet []byte
	// Remote: the keys of another issuer will be fetched.
	Remote bool
}

// Half is one of the two PEM keys among Sources.
type Half string

// The halves of a key pair.
const (
	PublicHalf  Half = "public key"
	PrivateHalf Half = "private key"
)

// PEMFault says which PEM key cannot be used. Its text repeats nothing of the key.
type PEMFault struct {
	Half Half
	Err  error
}

func (f *PEMFault) Error() string { return string(f.Half) + ": " + f.Err.Error() }

func (f *PEMFault) Unwrap() error { return f.Err }

// KeySet makes the set. Where there is neither a JWK set nor a private key, the
// secret signs, if there is one.
func (s Sources) KeySet() (*KeySet, error) {
	a, err := algorithmNamed(s.Algorithm)
	if err != nil {
		return nil, err
	}
	pems := len(s.PublicPEM) > 0 || len(s.PrivatePEM) > 0
	switch {
	case pems && (len(s.JWKSet) > 0 || s.Remote):
		return nil, errors.New("a PEM key has no place beside a JWK set")
	case len(s.JWKSet) > 0 || s.Remote:
		return s.namedKeys(a)
	case a.family == familyHMAC && pems:
		return nil, fmt.Errorf("%s uses a shared secret, not a PEM key", s.Algorithm)
	case a.family == familyHMAC && len(s.Secret) == 0:
		return nil, fmt.Errorf("%s needs a shared secret", s.Algorithm)
	case a.family != familyHMAC && !pems:
		return nil, fmt.Errorf("%s needs a PEM public or private key", s.Algorithm)
	}

	keys, err := s.pemKeys()
	if err != nil {
		return nil, err
	}
	if len(s.Secret) > 0 {
		k, err := s.secretKey(a)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return NewKeySet(keys...)
}

// pemKeys reads both halves, so that both are told about when both are wrong.
func (s Sources) pemKeys() ([]Key, error) {
	var keys []Key
	var faults []error
	read := func(half Half, text []byte, parse func([]byte, string) (Key, error)) {
		if len(text) == 0 {
			return
		}
		k, err := parse(text, s.Algorithm)
		if err != nil {
			faults = append(faults, &PEMFault{Half: half, Err: err})
			return
		}
		keys = append(keys, k)
	}
	read(PrivateHalf, s.PrivatePEM, PrivateKey)
	read(PublicHalf, s.PublicPEM, PublicKey)
	if len(keys) == 2 {
		if keys[0].ID() != keys[1].ID() {
			faults = append(faults, &PEMFault{Half: PublicHalf, Err: errors.New("does not belong to the private key")})
		}
		keys = keys[:1]
	}
	return keys, errors.Join(faults...)
}

func (s Sources) secretKey(a algorithm) (Key, error) {
	alg := "HS256"
	if a.family == familyHMAC {
		alg = a.name
	}
	return SecretKey(s.Secret, alg)
}

// namedKeys makes the set whose keys have names, with the secret beside them.
func (s Sources) namedKeys(a algorithm) (*KeySet, error) {
	set := emptySet()
	set.remote = s.Remote
	if len(s.JWKSet) > 0 {
		own, err := readOwnSet(s.JWKSet)
		if err != nil {
			return nil, err
		}
		set.signer = own.signer
		for _, k := range own.keys {
			set.byID[k.id] = k
			set.add(k)
		}
	}
	if len(s.Secret) > 0 {
		k, err := s.secretKey(a)
		if err != nil {
			return nil, err
		}
		set.unnamed[k.Algorithm()] = k
		set.add(k)
		if len(s.JWKSet) == 0 {
			// A JWK set says itself which key signs, or that none does.
			set.signer = k
		}
	}
	return set, nil
}
