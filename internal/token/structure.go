package token

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
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
	algorithm string
	kid       string // empty: none named
	claims    claims
	signed    string // the signing input of RFC 7515 section 5.2
	signature []byte
}

// claims are the members of the payload that anyone asks for.
type claims struct {
	subject, issuer, email, company, session, role text
	audience                                       list
	expires, notBefore, issued                     instant
	roles                                          list
}

type (
	text struct {
		value   string
		present bool
	}
	list struct {
		values  []string
		present bool
	}
	instant struct {
		at      time.Time
		present bool
	}
)

// read takes a token apart. Every error is the first row of the contract's
// table: malformed.
func read(raw string, profile Profile) (unverified, error) {
	header, payload, signature, err := split(raw)
	if err != nil {
		return unverified{}, err
	}
	t := unverified{signed: raw[:strings.LastIndexByte(raw, '.')], signature: signature}
	if err := t.readHeader(header); err != nil {
		return unverified{}, err
	}
	if err := t.claims.read(payload, profile); err != nil {
		return unverified{}, err
	}
	return t, nil
}

func split(raw string) (header, payload, signature []byte, err error) {
	if len(raw) > maxLength {
		return nil, nil, nil, errTooLong
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, nil, nil, errParts
	}
	var decoded [3][]byte
	for i, part := range parts {
		if decoded[i], err = decodePart(part); err != nil {
			return nil, nil, nil, err
		}
	}
	return decoded[0], decoded[1], decoded[2], nil
}

// decodePart reads base64url without padding (RFC 7515 section 2). Strict
// refuses trailing bits that are not zero, by which one signature would have
// several spellings; encoding/base64 skips line ends, which would too.
func decodePart(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, errBase64
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}

// readHeader takes alg and kid. Everything else is ignored, jku, x5u, jwk and
// x5c above all: a token must not bring its own key. Only crit ends it, known
// or not, because it says that the header must not be ignored.
func (t *unverified) readHeader(data []byte) error {
	err := readObject(data, func(d *jsontext.Decoder, name string) error {
		switch name {
		case "crit":
			return errCritical
		case "alg":
			return readString(d, &t.algorithm, errHeader)
		case "kid":
			return readString(d, &t.kid, errHeader)
		}
		return skip(d)
	})
	if err == nil && t.algorithm == "" {
		err = errHeader
	}
	return err
}

// read takes the claims of RFC 7519 section 4.1 and those that the profile
// uses. A claim that nobody here reads may be of any type.
func (c *claims) read(data []byte, profile Profile) error {
	var id text
	return readObject(data, func(d *jsontext.Decoder, name string) error {
		switch name {
		case "sub":
			return c.subject.read(d)
		case "iss":
			return c.issuer.read(d)
		case "jti":
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
		case "email":
			return c.email.read(d)
		}
		switch {
		case profile == Native && name == "company_id":
			return c.company.read(d)
		case profile == Supabase && name == "role":
			return c.role.read(d)
		case profile == Supabase && name == "app_metadata":
			return c.readAppMetadata(d)
		}
		return skip(d)
	})
}

func (c *claims) readAppMetadata(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case 'n':
		return skip(d)
	case '{':
	default:
		return errClaimType
	}
	return readMembers(d, func(d *jsontext.Decoder, name string) error {
		switch name {
		case "company_id":
			return c.company.read(d)
		case "roles":
			return c.roles.read(d, false)
		}
		return skip(d)
	})
}

// readObject reads the one JSON object that data must be, and calls member for
// each of its members in turn, which must consume exactly the value.
// Duplicate names at any depth, invalid UTF-8, lone surrogates and trailing
// data are refused by jsontext (RFC 7493).
func readObject(data []byte, member func(*jsontext.Decoder, string) error) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(data))
	if d.PeekKind() != '{' {
		return errJSON
	}
	if err := readMembers(d, member); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errJSON
	}
	return nil
}

func readMembers(d *jsontext.Decoder, member func(*jsontext.Decoder, string) error) error {
	if _, err := d.ReadToken(); err != nil { // the brace
		return errJSON
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return errJSON
		}
		if err := member(d, name.String()); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return errJSON
	}
	return nil
}

// skip reads one value of any kind.
func skip(d *jsontext.Decoder) error {
	outside := d.StackDepth()
	for {
		if _, err := d.ReadToken(); err != nil {
			return errJSON
		}
		switch depth := d.StackDepth(); {
		case depth == outside:
			return nil
		case depth > maxDepth:
			return errDepth
		}
	}
}

func readString(d *jsontext.Decoder, into *string, wrongType error) error {
	t, err := d.ReadToken()
	if err != nil {
		return errJSON
	}
	if t.Kind() != '"' {
		return wrongType
	}
	*into = t.String()
	return nil
}

func (t *text) read(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return skip(d)
	}
	t.present = true
	return readString(d, &t.value, errClaimType)
}

// read takes an array of strings, or a single one where that is allowed (aud,
// RFC 7519 section 4.1.3).
func (l *list) read(d *jsontext.Decoder, single bool) error {
	switch kind := d.PeekKind(); {
	case kind == 'n':
		return skip(d)
	case kind == '"' && single:
		l.present, l.values = true, make([]string, 1)
		return readString(d, &l.values[0], errClaimType)
	case kind != '[':
		return errClaimType
	}
	l.present = true
	if _, err := d.ReadToken(); err != nil {
		return errJSON
	}
	for d.PeekKind() != ']' {
		var value string
		if err := readString(d, &value, errClaimType); err != nil {
			return err
		}
		l.values = append(l.values, value)
	}
	if _, err := d.ReadToken(); err != nil {
		return errJSON
	}
	return nil
}

// read takes a NumericDate (RFC 7519 section 2), which may have a fraction.
func (i *instant) read(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return skip(d)
	}
	t, err := d.ReadToken()
	if err != nil {
		return errJSON
	}
	if t.Kind() != '0' {
		return errClaimType
	}
	seconds, err := strconv.ParseFloat(t.String(), 64)
	if err != nil || seconds > maxInstant || seconds < -maxInstant {
		return errClaimType
	}
	whole, fraction := math.Modf(seconds)
	i.present, i.at = true, time.Unix(int64(whole), int64(fraction*1e9)).UTC()
	return nil
}
