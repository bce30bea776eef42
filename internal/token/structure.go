package token

import (
	"encoding/base64"
	"errors"
	"strings"
)

const (
	// maxLength bounds the work that an unverified token can cause. Envoy
	// takes 60 KiB of headers, so a longer token never comes through it.
	maxLength = 64 << 10
	// maxDepth is how deep the JSON of a token may nest.
	maxDepth = 32
	// maxInstant is the last second of the year 9999, beyond which a time has
	// no RFC 3339 form and arithmetic on it can overflow.
	maxInstant = 253402300799
)

// What a malformed token can be. The texts are for our log and repeat nothing
// of the token.
var (
	errTooLong   = errors.New("longer than 65536 bytes")
	errParts     = errors.New("not three parts")
	errBase64    = errors.New("a part is not strict base64url")
	errJSON      = errors.New("header or payload is not one JSON object with unique member names")
	errDepth     = errors.New("JSON nested too deeply")
	errCritical  = errors.New("the header has crit")
	errHeader    = errors.New("alg or kid in the header is not a string, or alg is missing")
	errAlgorithm = errors.New("no key of ours has this algorithm")
	errClaimType = errors.New("a claim is not of its type")
)

// unverified is a token that was taken apart and says what it likes.
type unverified struct {
	header    header
	claims    claims
	signed    string // the signing input of RFC 7515 section 5.2
	signature []byte
}

// header is what a header says that anyone asks for.
type header struct {
	algorithm string
	kid       string // empty: none named
}

// claims are the members of the payload that anyone asks for.
type claims struct {
	subject, issuer, email, company, session, role text
	audience                                       list
	expires, notBefore, issued                     instant
	roles                                          list
}

// reader takes one token apart after another. It keeps its buffers, so that a
// token costs few allocations.
type reader struct {
	strict    *base64.Encoding
	document  document
	decoded   []byte // the part that is being read
	signature []byte

	// The last header, and its one spelling: an issuer begins all tokens of a key
	// alike, so that the next one's is the same more often than not.
	header  header // without an algorithm: none
	encoded []byte
}

func newReader() *reader {
	// Strict refuses trailing bits that are not zero, by which one signature
	// would have several spellings.
	return &reader{strict: base64.RawURLEncoding.Strict()}
}

// read takes a token apart, in the words of the one whose it says that it is. Every
// error is the first row of the contract's table: malformed. The result is good
// until the next read.
func (r *reader) read(raw string, own *party, others *trust) (t unverified, by *party, err error) {
	by = own
	header, payload, signature, err := split(raw)
	if err != nil {
		return unverified{}, by, err
	}
	if err := r.readHeader(header); err != nil {
		return unverified{}, by, err
	}
	if r.decoded, err = r.decode(r.decoded, payload); err != nil {
		return unverified{}, by, err
	}
	if others != nil {
		iss, err := r.issuer(r.decoded)
		if err != nil {
			return unverified{}, by, err
		}
		by = others.choose(own, iss, r.header.algorithm)
	}
	if err := t.claims.read(&r.document, r.decoded, by.reading); err != nil {
		return unverified{}, by, err
	}
	if r.signature, err = r.decode(r.signature, signature); err != nil {
		return unverified{}, by, err
	}
	t.header, t.signed, t.signature = r.header, raw[:len(raw)-1-len(signature)], r.signature
	return t, by, nil
}

// issuer is who a payload says has issued it. It is read before everything else,
// because it says how the rest is to be read; members come in any order.
func (r *reader) issuer(payload []byte) (string, error) {
	var iss text
	d := &r.document
	err := d.read(payload, func(name string) error {
		if name == "iss" {
			return iss.read(d)
		}
		return d.skip()
	})
	return iss.value, err
}

// split gives the three parts, encoded.
func split(raw string) (header, payload, signature string, err error) {
	if len(raw) > maxLength {
		return "", "", "", errTooLong
	}
	header, rest, _ := strings.Cut(raw, ".")
	payload, signature, found := strings.Cut(rest, ".")
	if !found || strings.Contains(signature, ".") {
		return "", "", "", errParts
	}
	return header, payload, signature, nil
}

// decode reads base64url without padding (RFC 7515 section 2) into the memory of
// another part. encoding/base64 skips line ends, by which one token would have
// several spellings.
func (r *reader) decode(into []byte, part string) ([]byte, error) {
	if strings.Contains(part, "\n") || strings.Contains(part, "\r") {
		return into, errBase64
	}
	decoded, err := r.strict.AppendDecode(into[:0], []byte(part))
	if err != nil {
		return into, errBase64
	}
	return decoded, nil
}

// readHeader takes alg and kid. Everything else is ignored, jku, x5u, jwk and
// x5c above all: a token must not bring its own key. Only crit ends it, known
// or not, because it says that the header must not be ignored.
func (r *reader) readHeader(encoded string) (err error) {
	if r.header.algorithm != "" && string(r.encoded) == encoded {
		return nil
	}
	r.header = header{}
	if r.decoded, err = r.decode(r.decoded, encoded); err != nil {
		return err
	}
	var h header
	d := &r.document
	err = d.read(r.decoded, func(name string) (err error) {
		switch name {
		case "crit":
			return errCritical
		case "alg":
			h.algorithm, err = d.string(errHeader)
		case "kid":
			h.kid, err = d.string(errHeader)
		default:
			err = d.skip()
		}
		return err
	})
	if err == nil && h.algorithm == "" {
		err = errHeader
	}
	if err == nil {
		r.header, r.encoded = h, append(r.encoded[:0], encoded...)
	}
	return err
}

// read takes the claims of RFC 7519 section 4.1 and those that the reading looks
// for. A claim that nobody here reads may be of any type.
func (c *claims) read(d *document, json []byte, how reading) error {
	return d.read(json, func(name string) error {
		switch name {
		case "iss":
			return c.issuer.read(d)
		case "jti":
			var id text
			return id.read(d)
		case "aud":
			return c.audience.read(d, true)
		case "exp":
			return c.expires.read(d)
		case "nbf":
			return c.notBefore.read(d)
		case "iat":
			return c.issued.read(d)
		case "sid":
			return c.session.read(d)
		}
		if how.mapped != nil {
			return how.mapped.take(c, d, name)
		}
		switch name {
		case "sub":
			return c.subject.read(d)
		case "email":
			return c.email.read(d)
		}
		switch {
		case how.profile == Native && name == "company_id":
			return c.company.read(d)
		case name == "role" && (how.profile == Supabase || how.role):
			return c.role.read(d)
		case how.profile == Supabase && name == "app_metadata":
			return c.readAppMetadata(d)
		}
		return d.skip()
	})
}

func (c *claims) readAppMetadata(d *document) error {
	switch d.PeekKind() {
	case 'n':
		return d.skip()
	case '{':
	default:
		return errClaimType
	}
	return d.members(func(name string) error {
		switch name {
		case "company_id":
			return c.company.read(d)
		case "roles":
			return c.roles.read(d, false)
		}
		return d.skip()
	})
}
