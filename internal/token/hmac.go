package token

import (
	"crypto"
	"crypto/hmac"
	"errors"
	"hash"
	"sync"
)

// errMismatch is no signature of this secret.
var errMismatch = errors.New("the signature is another")

// mac is a keyed hash that is used again: what it makes of the secret, which
// golang-jwt does for each token anew, it does once.
type mac struct {
	hash.Hash
	signed, sum []byte
}

// verifyHMAC checks signatures as golang-jwt does (RFC 7518 section 3.2), in
// constant time.
func verifyHMAC(algorithm crypto.Hash, secret []byte) func(signed string, signature []byte) error {
	macs := sync.Pool{New: func() any { return &mac{Hash: hmac.New(algorithm.New, secret)} }}
	return func(signed string, signature []byte) error {
		m, _ := macs.Get().(*mac)
		defer macs.Put(m)
		m.signed = append(m.signed[:0], signed...)
		m.Reset()
		_, _ = m.Write(m.signed) // a hash returns no error
		m.sum = m.Sum(m.sum[:0])
		if !hmac.Equal(signature, m.sum) {
			return errMismatch
		}
		return nil
	}
}
