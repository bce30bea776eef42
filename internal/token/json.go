package token

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// What a claim, or a member of the header, can be.
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

// document reads the JSON of one part after another. Duplicate names at any
// depth, invalid UTF-8 and lone surrogates are refused by jsontext (RFC 7493).
//
// What it gives are parts of the JSON's own text, where nothing is escaped, so
// that they cost nothing; whoever keeps one clones it.
type document struct {
	*jsontext.Decoder
	text  string
	bytes bytes.Buffer // what the decoder reads: the text
}

// read reads the one JSON object that bytes must be, and calls member for each of
// its members in turn, which must consume exactly the value. Trailing data are
// refused.
func (d *document) read(json []byte, member func(name string) error) error {
	d.text = string(json)
	d.bytes = *bytes.NewBuffer(json)
	if d.Decoder == nil {
		d.Decoder = jsontext.NewDecoder(&d.bytes)
	} else {
		d.Reset(&d.bytes)
	}
	if d.PeekKind() != '{' {
		return errJSON
	}
	if err := d.members(member); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errJSON
	}
	return nil
}

func (d *document) members(member func(name string) error) error {
	if _, err := d.ReadToken(); err != nil { // the brace
		return errJSON
	}
	for d.PeekKind() != '}' {
		name, err := d.string(errJSON)
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return errJSON
	}
	return nil
}

// skip reads one value of any kind.
func (d *document) skip() error {
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

// scalar reads a value that is no object and no array, and gives it as it is
// spelled.
func (d *document) scalar() (string, error) {
	value, err := d.ReadValue()
	if err != nil {
		return "", errJSON
	}
	end := int(d.InputOffset())
	return d.text[end-len(value) : end], nil
}

func (d *document) string(wrongType error) (string, error) {
	if d.PeekKind() != '"' {
		return "", wrongType
	}
	quoted, err := d.scalar()
	if err != nil {
		return "", err
	}
	if !strings.Contains(quoted, `\`) {
		return quoted[1 : len(quoted)-1], nil
	}
	plain, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return "", errJSON
	}
	return string(plain), nil
}

func (t *text) read(d *document) (err error) {
	if d.PeekKind() == 'n' {
		return d.skip()
	}
	t.present = true
	t.value, err = d.string(errClaimType)
	return err
}

// read takes an array of strings, or a single one where that is allowed (aud,
// RFC 7519 section 4.1.3).
func (l *list) read(d *document, single bool) error {
	switch kind := d.PeekKind(); {
	case kind == 'n':
		return d.skip()
	case kind == '"' && single:
		value, err := d.string(errClaimType)
		l.present, l.values = true, []string{value}
		return err
	case kind != '[':
		return errClaimType
	}
	l.present = true
	if _, err := d.ReadToken(); err != nil {
		return errJSON
	}
	for d.PeekKind() != ']' {
		value, err := d.string(errClaimType)
		if err != nil {
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
func (i *instant) read(d *document) error {
	switch d.PeekKind() {
	case 'n':
		return d.skip()
	case '0':
	default:
		return errClaimType
	}
	number, err := d.scalar()
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil || seconds > maxInstant || seconds < -maxInstant {
		return errClaimType
	}
	whole, fraction := math.Modf(seconds)
	i.present, i.at = true, time.Unix(int64(whole), int64(fraction*1e9)).UTC()
	return nil
}
