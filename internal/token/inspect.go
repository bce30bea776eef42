package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/atenex/gatehouse/internal/identity"
)

// Inspection is a token laid open for an operator. Header and Claims are what
// it says of itself, true or not; the signature, without which the rest is of
// no use to a thief, is not part of it.
type Inspection struct {
	Header json.RawMessage `json:"header"`
	Claims json.RawMessage `json:"claims"`

	// Judged tells whether there were keys to judge the token with; only then
	// do the fields below mean anything.
	Judged bool `json:"judged"`
	// Refusal is the problem a request with this token would meet before any
	// question to the database; nil: none.
	Refusal    error               `json:"-"`
	Credential identity.Credential `json:"-"`
	// From is the name of the issuer that it was taken for.
	From string `json:"-"`
}

// Inspect decodes a token without trusting it, one that would be refused
// included as long as its parts are JSON, and judges it if v is not nil. The
// JSON is indented and ASCII, so that it can be shown on a terminal.
func Inspect(raw string, v *Verifier, now time.Time) (Inspection, error) {
	header, payload, signature, err := split(raw)
	if err != nil {
		return Inspection{}, fmt.Errorf("not a token: %w", err)
	}
	var parts [3][]byte
	for i, part := range []string{header, payload, signature} {
		if parts[i], err = newReader().decode(nil, part); err != nil {
			return Inspection{}, fmt.Errorf("not a token: %w", err)
		}
	}
	var in Inspection
	if in.Header, err = show(parts[0]); err != nil {
		return Inspection{}, fmt.Errorf("not a token: the header %w", err)
	}
	if in.Claims, err = show(parts[1]); err != nil {
		return Inspection{}, fmt.Errorf("not a token: the payload %w", err)
	}
	if v != nil {
		in.Judged = true
		in.Credential, in.Refusal = v.Verify(raw, now)
		said, _ := v.Read(raw) // of one that cannot be read too
		in.From = said.From
	}
	return in, nil
}

// show lays JSON out and escapes every rune that a terminal could act on.
func show(data []byte) (json.RawMessage, error) {
	value := jsontext.Value(data)
	if err := value.Indent(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), jsontext.WithIndent("  ")); err != nil {
		return nil, errors.New("is not JSON")
	}
	var shown []byte
	for i := 0; i < len(value); {
		r, size := utf8.DecodeRune(value[i:])
		switch {
		case r >= utf8.RuneSelf || r == 0x7f:
			for _, unit := range utf16.Encode([]rune{r}) {
				shown = fmt.Appendf(shown, `\u%04x`, unit)
			}
		default:
			shown = append(shown, value[i])
		}
		i += size
	}
	return shown, nil
}
