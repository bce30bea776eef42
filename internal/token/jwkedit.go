package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The purposes of a key in a set of our own.
const (
	opSign   = "sign"
	opVerify = "verify"
)

// generatedRSABits is what NIST SP 800-57 asks for past 2030.
const generatedRSABits = 3072

// privateJWK is a key as it is written to a file of secrets.
type privateJWK struct {
	publicJWK
	D          string   `json:"d,omitzero"`
	P          string   `json:"p,omitzero"`
	Q          string   `json:"q,omitzero"`
	DP         string   `json:"dp,omitzero"`
	DQ         string   `json:"dq,omitzero"`
	QI         string   `json:"qi,omitzero"`
	K          string   `json:"k,omitzero"`
	Operations []string `json:"key_ops"`
}

// GenerateJWK makes a key, with its private half, as the text of a JWK that only
// verifies until [PromoteJWK] lets it sign. An empty id becomes the key's
// thumbprint, or for a shared secret a random name.
func GenerateJWK(alg, id string) (text []byte, kid string, err error) {
	a, err := algorithmNamed(alg)
	if err != nil {
		return nil, "", err
	}
	if len(id) > maxKeyID {
		return nil, "", fmt.Errorf("a kid of more than %d bytes", maxKeyID)
	}
	j, err := generate(a)
	if err != nil {
		return nil, "", fmt.Errorf("making a key for %s: %w", alg, err)
	}
	switch {
	case id != "":
		j.ID = id
	case a.family == familyHMAC:
		j.ID = rand.Text()
	default:
		if j.ID, err = j.thumbprint(); err != nil {
			return nil, "", err
		}
	}
	j.Algorithm, j.Operations = a.name, []string{opVerify}
	text, err = json.Marshal(j)
	if err != nil {
		return nil, "", errors.New("the kid is no valid text")
	}
	return text, j.ID, nil
}

func generate(a algorithm) (privateJWK, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	var (
		j      privateJWK
		signer crypto.Signer
	)
	switch a.family {
	case familyHMAC:
		secret := make([]byte, a.hashBytes())
		_, err := rand.Read(secret)
		j.Type, j.K = "oct", b64(secret)
		return j, err
	case familyRSA:
		key, err := rsa.GenerateKey(rand.Reader, generatedRSABits)
		if err != nil {
			return j, err
		}
		j.D, j.P, j.Q = b64(key.D.Bytes()), b64(key.Primes[0].Bytes()), b64(key.Primes[1].Bytes())
		j.DP, j.DQ, j.QI = b64(key.Precomputed.Dp.Bytes()), b64(key.Precomputed.Dq.Bytes()), b64(key.Precomputed.Qinv.Bytes())
		signer = key
	case familyECDSA:
		key, err := ecdsa.GenerateKey(a.curve, rand.Reader)
		if err != nil {
			return j, err
		}
		d, err := key.Bytes()
		if err != nil {
			return j, err
		}
		j.D, signer = b64(d), key
	case familyEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return j, err
		}
		j.D, signer = b64(key.Seed()), key
	}
	published, err := publicMembers(signer.Public())
	j.publicJWK = published
	return j, err
}

// ErrNoKeyOfThatName is that of a set without the key that is to be changed.
var ErrNoKeyOfThatName = errors.New("the set has no key with that kid")

// AddJWK returns the set with one more key, which only verifies. An empty set
// begins one; its first key signs, because a set in which none does is no use to
// login.
func AddJWK(set, key []byte) ([]byte, error) {
	d := jwkSet{Keys: []jsontext.Value{}}
	if len(set) > 0 {
		if _, err := readOwnSet(set); err != nil {
			return nil, err
		}
		var err error
		if d, err = readDocument(set); err != nil {
			return nil, err
		}
	}
	operation := opVerify
	if len(d.Keys) == 0 {
		operation = opSign
	}
	added, err := withOperation(key, operation)
	if err != nil {
		return nil, err
	}
	d.Keys = append(d.Keys, added)
	return d.write()
}

// PromoteJWK returns the set in which the key with this kid signs, and the one
// that did only verifies. That one keeps its private half, so that the step can
// be taken back.
func PromoteJWK(set []byte, kid string) ([]byte, error) {
	d, names, err := named(set)
	if err != nil {
		return nil, err
	}
	found := false
	for i, value := range d.Keys {
		operation := opVerify
		if names[i] == kid {
			operation, found = opSign, true
		}
		if d.Keys[i], err = withOperation(value, operation); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, ErrNoKeyOfThatName
	}
	return d.write()
}

// RemoveJWK returns the set without the key. The one that signs is not removed:
// nobody could log in any more.
func RemoveJWK(set []byte, kid string) ([]byte, error) {
	d, names, err := named(set)
	if err != nil {
		return nil, err
	}
	own, err := readOwnSet(set)
	if err != nil {
		return nil, err
	}
	if own.signer.CanSign() && own.signer.id == kid {
		return nil, errors.New("this key signs; let another one sign first")
	}
	kept := d.Keys[:0]
	for i, value := range d.Keys {
		if names[i] != kid {
			kept = append(kept, value)
		}
	}
	if len(kept) == len(names) {
		return nil, ErrNoKeyOfThatName
	}
	d.Keys = kept
	return d.write()
}

// named reads a set and the names of its keys, place by place.
func named(set []byte) (jwkSet, []string, error) {
	own, err := readOwnSet(set)
	if err != nil {
		return jwkSet{}, nil, err
	}
	d, err := readDocument(set)
	if err != nil {
		return jwkSet{}, nil, err
	}
	names := make([]string, len(own.keys))
	for i, k := range own.keys {
		names[i] = k.id
	}
	return d, names, nil
}

// withOperation sets key_ops and keeps everything else that a key says.
func withOperation(key []byte, operation string) (jsontext.Value, error) {
	var j struct {
		Operations []string       `json:"key_ops"`
		Rest       jsontext.Value `json:",embed"`
	}
	if json.Unmarshal(key, &j) != nil {
		return nil, errors.New("the key is no JSON object of the right types")
	}
	j.Operations = []string{operation}
	out, err := json.Marshal(j)
	if err != nil {
		return nil, errors.New("the key cannot be written")
	}
	return out, nil
}

// write lays a set out for people, and proves that it can be used.
func (d jwkSet) write() ([]byte, error) {
	text, err := json.Marshal(d, jsontext.WithIndent("  "))
	if err != nil {
		return nil, errors.New("the set cannot be written")
	}
	if _, err := readOwnSet(text); err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// KeyOf is one key of a set, without what is secret of it.
type KeyOf struct {
	ID        string
	Algorithm string
	Type      string // kty
	Signs     bool
	Origin    Origin
}

// Describe lists the keys of a set in the order of the settings.
func (s *KeySet) Describe() []KeyOf {
	list := make([]KeyOf, len(s.keys))
	for i, k := range s.keys {
		list[i] = KeyOf{
			ID: k.id, Algorithm: k.Algorithm(), Type: "oct", Origin: k.origin,
			Signs: s.signer.CanSign() && s.signer.id == k.id && s.signer.origin == k.origin,
		}
		if k.public != nil {
			list[i].Type = k.public.Type
		}
	}
	return list
}
