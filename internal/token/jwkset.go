package token

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxKeys is how many keys a set may have.
const maxKeys = 100

// jwkSet is a JWK set (RFC 7517 section 5) whose keys were not looked into. What
// is not understood is kept for the sets that are edited.
type jwkSet struct {
	Keys []jsontext.Value `json:"keys"`
	Rest jsontext.Value   `json:",embed"`
}

// readDocument is strict: member names are unique at every depth, text is valid
// UTF-8 and nothing stands behind the object.
func readDocument(text []byte) (jwkSet, error) {
	var d jwkSet
	err := json.Unmarshal(text, &d)
	_, wrongType := errors.AsType[*json.SemanticError](err)
	switch {
	case wrongType && jsontext.Value(text).Kind() == '[':
		return d, errors.New(`a JWK set is an object, {"keys": [...]}, not an array`)
	case wrongType, err == nil && d.Keys == nil:
		return d, errors.New(`not a JWK set, {"keys": [...]}`)
	case err != nil:
		return d, errors.New("not strict JSON")
	case len(d.Keys) > maxKeys:
		return d, fmt.Errorf("%d keys are too many, %d are accepted", len(d.Keys), maxKeys)
	}
	return d, nil
}

// KeyFaults is what is wrong with a JWK set: for each fault the place of its
// key, counted from zero, and never anything that stands in the key.
type KeyFaults []string

func (f KeyFaults) Error() string { return strings.Join(f, "; ") }

func (f *KeyFaults) add(index int, err error) {
	*f = append(*f, fmt.Sprintf("keys[%d]: %v", index, err))
}

// ownSet is the set of JWT_KEYS, read.
type ownSet struct {
	keys   []Key
	signer Key // zero: none
}

// readOwnSet reads a set whose every key has to be understood, because every key
// is there on purpose: a key that was left out would be found missing by the
// tokens that it signs.
func readOwnSet(text []byte) (ownSet, error) {
	d, err := readDocument(text)
	if err != nil {
		return ownSet{}, err
	}
	if len(d.Keys) == 0 {
		return ownSet{}, errors.New("the set has no key")
	}
	var (
		faults    KeyFaults
		set       ownSet
		signing   = -1
		names     = map[string]int{}
		materials = map[string]int{}
	)
	for i, value := range d.Keys {
		j, err := readJWK(value)
		if err != nil {
			faults.add(i, err)
			continue
		}
		k, err := j.key(j.Algorithm)
		if err != nil {
			faults.add(i, err)
			continue
		}
		if first, taken := names[k.id]; taken {
			faults.add(i, fmt.Errorf("has the kid of keys[%d]", first))
			continue
		}
		names[k.id] = i
		// One key under two names or with two algorithms is two doors with one lock.
		if first, taken := materials[k.material]; taken {
			faults.add(i, fmt.Errorf("is the same key as keys[%d]", first))
			continue
		}
		materials[k.material] = i
		switch {
		case !j.signs():
			k.sign = nil // a private half that is not asked for is not kept
		case !k.CanSign():
			faults.add(i, errors.New("is to sign (key_ops) and has no private half"))
			continue
		case signing >= 0:
			faults.add(i, fmt.Errorf(`is to sign (key_ops), and so is keys[%d]; only one key can`, signing))
			continue
		default:
			signing, set.signer = i, k
		}
		k.origin = OriginSet
		set.keys = append(set.keys, k)
	}
	if len(faults) > 0 {
		return ownSet{}, faults
	}
	set.signer.origin = OriginSet
	return set, nil
}

// ReadPublishedSet reads a set that another issuer publishes. A key that cannot
// be used is left out, as RFC 7517 section 5 has it, and refused says of each
// why; so are a shared secret and a private key, which are nobody's any more once
// they are published, and every key whose kid is another's too. An error means
// that this is no set at all.
//
// algorithm is what an RSA key that does not name its algorithm is taken for;
// empty: such a key is left out.
func ReadPublishedSet(text []byte, algorithm string) (keys []Key, refused KeyFaults, err error) {
	d, err := readDocument(text)
	if err != nil {
		return nil, nil, err
	}
	named := map[string]int{}
	for i, value := range d.Keys {
		j, err := readJWK(value)
		if err != nil {
			refused.add(i, err)
			continue
		}
		if j.Type == "oct" || j.K != nil || j.isPrivate() {
			refused.add(i, errors.New("is a secret; a published set holds public keys only"))
			continue
		}
		alg := j.algorithmOf()
		if alg == "" && j.Type == "RSA" {
			alg = algorithm
		}
		k, err := j.key(alg)
		if err != nil {
			refused.add(i, err)
			continue
		}
		named[k.id]++
		k.origin = OriginFetched
		keys = append(keys, k)
	}
	unique := keys[:0]
	for _, k := range keys {
		if named[k.id] == 1 {
			unique = append(unique, k)
		}
	}
	if left := len(keys) - len(unique); left > 0 {
		refused = append(refused, fmt.Sprintf("%d keys share a kid with another", left))
	}
	return unique, refused, nil
}

// PinnedSet makes the keys of another issuer from a JWK set that an operator gives
// by hand, for these algorithms and no others. Like a set of our own it is refused
// as a whole, with [KeyFaults], if anything is wrong with it, and so is a private
// key, which is nobody's but the issuer's; only keys for encryption are passed over.
// An RSA key that does not name its algorithm is for the first of them.
func PinnedSet(text []byte, algorithms []string) (*KeySet, error) {
	d, err := readDocument(text)
	if err != nil {
		return nil, err
	}
	var (
		faults    KeyFaults
		set       = emptySet()
		materials = map[string]int{}
	)
	for i, value := range d.Keys {
		j, err := readJWK(value)
		switch {
		case err != nil:
			faults.add(i, err)
			continue
		case j.Use == "enc":
			continue
		case j.isPrivate():
			faults.add(i, errors.New("is a private key, which is its issuer's alone"))
			continue
		}
		alg := j.algorithmOf()
		if alg == "" && j.Type == "RSA" {
			alg = firstRSA(algorithms)
		}
		if alg != "" && !pinned(algorithms, alg) {
			faults.add(i, errors.New("is for an algorithm that is not among those of the issuer"))
			continue
		}
		k, err := j.key(alg)
		if err != nil {
			faults.add(i, err)
			continue
		}
		if _, taken := set.byID[k.id]; taken {
			faults.add(i, errors.New("has the kid of another"))
			continue
		}
		if first, taken := materials[k.material]; taken {
			faults.add(i, fmt.Errorf("is the same key as keys[%d]", first))
			continue
		}
		k.origin, k.sign, materials[k.material] = OriginSet, nil, i
		set.byID[k.id] = k
		set.add(k)
	}
	switch {
	case len(faults) > 0:
		return nil, faults
	case len(set.keys) == 0:
		return nil, errors.New("the set has no key")
	}
	return set, nil
}

// firstRSA is the first algorithm for RSA keys; empty: there is none.
func firstRSA(algorithms []string) string {
	for _, name := range algorithms {
		if a, err := algorithmNamed(name); err == nil && a.family == familyRSA {
			return name
		}
	}
	return ""
}

// RemoteSet is the empty set of an issuer that publishes its keys, and what an RSA
// key that does not name its algorithm is then taken for (see [ReadPublishedSet]).
func RemoteSet(algorithms []string) Sources {
	s := Sources{Remote: true, Algorithm: firstRSA(algorithms)}
	if s.Algorithm == "" && len(algorithms) > 0 {
		s.Algorithm = algorithms[0]
	}
	return s
}

// Shared reports an algorithm that uses a shared secret; known is false for what is
// no algorithm here.
func Shared(alg string) (shared, known bool) {
	a, err := algorithmNamed(alg)
	return err == nil && a.family == familyHMAC, err == nil
}

// JWKS is the set of public keys of our own (RFC 7517), for
// /.well-known/jwks.json: what is fetched from another issuer is that issuer's
// to publish, and shared secrets are nobody's.
func (s *KeySet) JWKS() []byte {
	published := struct {
		Keys []publicJWK `json:"keys"`
	}{Keys: []publicJWK{}}
	for _, k := range s.keys {
		if k.origin == OriginFetched || k.public == nil {
			continue
		}
		p := *k.public
		p.ID, p.Algorithm, p.Use = k.id, k.algorithm.name, "sig"
		published.Keys = append(published.Keys, p)
	}
	// Strings of base64url and kids, which were strings of JSON before, encode.
	text, err := json.Marshal(published)
	if err != nil {
		return []byte(`{"keys":[]}`)
	}
	return text
}
