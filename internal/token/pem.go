package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// minRSABits is RFC 7518 section 3.3: "A key of size 2048 bits or larger MUST
// be used".
const minRSABits = 2048

// PublicKey reads a PEM public key (PKIX, or PKCS #1 for RSA). A certificate is
// refused: it has an end date that would be ignored here.
func PublicKey(text []byte, alg string) (Key, error) {
	a, err := asymmetric(alg)
	if err != nil {
		return Key{}, err
	}
	block, err := onlyBlock(text)
	if err != nil {
		return Key{}, err
	}
	var public any
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		return Key{}, errors.New("this is a certificate; give its public key (openssl x509 -pubkey -noout)")
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
		return Key{}, errors.New("this is a private key; a public key belongs here")
	default:
		return Key{}, errors.New(`no "PUBLIC KEY" PEM block`)
	}
	if err != nil {
		return Key{}, errors.New("the PEM block holds no readable public key")
	}
	return verifying(public, a)
}

// PrivateKey reads an unencrypted PEM private key (PKCS #8, PKCS #1 for RSA or
// SEC 1 for EC).
func PrivateKey(text []byte, alg string) (Key, error) {
	a, err := asymmetric(alg)
	if err != nil {
		return Key{}, err
	}
	block, err := onlyBlock(text)
	if err != nil {
		return Key{}, err
	}
	if block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY" {
		return Key{}, errors.New("the private key is encrypted; give it unencrypted, as a secret file")
	}
	var private any
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		return Key{}, errors.New("this is a public key; a private key belongs here")
	default:
		return Key{}, errors.New(`no "PRIVATE KEY" PEM block`)
	}
	if err != nil {
		// What x509 says of a private key is not repeated: nothing of one
		// belongs in a log.
		return Key{}, errors.New("the PEM block holds no readable private key")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return Key{}, fmt.Errorf("a key of type %T cannot sign", private)
	}
	k, err := verifying(signer.Public(), a)
	if err != nil {
		return Key{}, err
	}
	return k.signingWith(private), nil
}

func asymmetric(alg string) (algorithm, error) {
	a, err := algorithmNamed(alg)
	if err != nil {
		return algorithm{}, err
	}
	if a.family == familyHMAC {
		return algorithm{}, fmt.Errorf("%s uses a shared secret, not a PEM key", alg)
	}
	return a, nil
}

// onlyBlock finds the one PEM block. "EC PARAMETERS", which `openssl ecparam
// -genkey` writes in front of the key, is passed over; a second key is refused,
// because which one counts would be a guess.
func onlyBlock(text []byte) (*pem.Block, error) {
	if !bytes.Contains(text, []byte("\n")) {
		// One environment variable often carries its line ends as \n.
		text = bytes.ReplaceAll(text, []byte(`\n`), []byte("\n"))
	}
	var found *pem.Block
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && found == nil:
			return nil, errors.New("no PEM block found")
		case block == nil && len(bytes.TrimSpace(text)) > 0:
			return nil, errors.New("there is something after the PEM block")
		case block == nil:
			return found, nil
		case block.Type == "EC PARAMETERS":
		case found != nil:
			return nil, errors.New("more than one PEM block")
		default:
			found = block
		}
		text = rest
	}
}

// verifying checks that the key is one that the algorithm may be used with.
func verifying(public any, a algorithm) (Key, error) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if a.family != familyRSA {
			return Key{}, fmt.Errorf("an RSA key cannot be used with %s", a.name)
		}
		if bits := p.N.BitLen(); bits < minRSABits {
			return Key{}, fmt.Errorf("an RSA key of %d bits is too short, %d are needed", bits, minRSABits)
		}
	case *ecdsa.PublicKey:
		if a.family != familyECDSA {
			return Key{}, fmt.Errorf("an EC key cannot be used with %s", a.name)
		}
		if p.Curve != a.curve {
			return Key{}, fmt.Errorf("%s needs a key on %s, this one is on %s", a.name, a.curve.Params().Name, p.Curve.Params().Name)
		}
	case ed25519.PublicKey:
		if a.family != familyEd25519 {
			return Key{}, fmt.Errorf("an Ed25519 key cannot be used with %s", a.name)
		}
	default:
		return Key{}, fmt.Errorf("a key of type %T cannot be used with %s", public, a.name)
	}
	published, err := publicMembers(public)
	if err != nil {
		return Key{}, err
	}
	id, err := published.thumbprint()
	if err != nil {
		return Key{}, err
	}
	k := newKey(id, a, public)
	k.public = &published
	return k, nil
}
