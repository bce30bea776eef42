package authz

import (
	"strings"
	"unicode/utf8"
)

// The fast path, first half; fast_response.go is the second. It takes what a
// decision needs out of the bytes that Envoy sent, without making a message of
// them: that alone would cost ten times what the rest of a check does.
//
// request.go is the ordinary path, and says what is right. This one may give up on
// any message and leave it to that one, and does so on whatever is unusual; but
// what it accepts, the ordinary one would have read alike. What no decision looks
// at is passed over unread: a fault in there ends the ordinary path and goes
// unnoticed here. A fuzz test holds the two together (FuzzBothPathsDecideAlike).

// The numbers of the fields that are read (attribute_context.proto and
// external_auth.proto of envoy.service.auth.v3).
const (
	fieldAttributes = 1 // CheckRequest

	fieldRequest    = 4 // AttributeContext
	fieldExtensions = 10

	fieldHTTP = 2 // AttributeContext.Request

	fieldMethod    = 2 // AttributeContext.HttpRequest
	fieldHeaders   = 3
	fieldPath      = 4
	fieldHeaderMap = 13

	fieldKey   = 1 // an entry of any map
	fieldValue = 2
)

// fastRequest reads a CheckRequest. The texts of the request are parts of asked.
func fastRequest(asked string) (r request, ok bool) {
	attributes, ok := only(fieldAttributes, asked)
	if !ok {
		return r, false
	}
	var inner string
	seen := false
	for attributes != "" {
		f, rest, ok := step(attributes)
		attributes = rest
		switch {
		case !ok:
			return r, false
		case f.is(fieldExtensions):
			if !r.extension(f.value) {
				return r, false
			}
		case f.is(fieldRequest):
			if seen {
				return r, false // the ordinary decoder merges two
			}
			inner, seen = f.value, true
		}
	}
	http, ok := only(fieldHTTP, inner)
	if !ok {
		return r, false
	}
	for http != "" {
		f, rest, ok := step(http)
		http = rest
		switch {
		case !ok || f.is(fieldHeaderMap): // encode_raw_headers is on, which has rules of its own
			return r, false
		case f.is(fieldHeaders):
			if !r.headerEntry(f.value) {
				return r, false
			}
		case f.is(fieldMethod):
			if r.method = f.value; !utf8.ValidString(f.value) {
				return r, false
			}
		case f.is(fieldPath):
			// Clients choose it, and need not make it text. The ordinary path would
			// refuse them with a fault of ours, which this is not.
			if r.path = ""; utf8.ValidString(f.value) {
				r.path = withoutQuery(f.value)
			}
		}
	}
	return r, true
}

// only returns the one occurrence of a message in a message, or an empty one.
func only(number uint64, text string) (value string, ok bool) {
	seen := false
	for text != "" {
		f, rest, ok := step(text)
		text = rest
		switch {
		case !ok:
			return "", false
		case f.is(number):
			if seen {
				return "", false
			}
			value, seen = f.value, true
		}
	}
	return value, true
}

// extension takes one entry of the context extensions. Of two with one key the
// later counts, as in any map of protobuf.
func (r *request) extension(entry string) bool {
	key, value, ok := pair(entry)
	if !ok {
		return false
	}
	switch key {
	case extensionMode:
		r.mode = value
	case extensionRoute:
		r.route = printable(value)
	case extensionRoles:
		r.roles = value
	default:
		return true
	}
	r.told = true
	return utf8.ValidString(value)
}

// headerEntry takes one entry of the headers. A second one of a name that counts
// is left to the ordinary path.
func (r *request) headerEntry(entry string) bool {
	key, value, ok := pair(entry)
	switch {
	case !ok:
		return false
	case key == headerAuthorization || len(key) == len(headerAuthorization) && strings.EqualFold(key, headerAuthorization):
		if r.authorization.count > 0 {
			return false
		}
		r.authorization.add(value)
	case key == headerRequestID || len(key) == len(headerRequestID) && strings.EqualFold(key, headerRequestID):
		if r.id != "" {
			return false
		}
		r.id = printable(value)
	default:
		return true
	}
	return utf8.ValidString(value)
}

// pair reads an entry of a map of texts. One with two keys or two values, of which
// the ordinary decoder looks at both, is left to it.
func pair(entry string) (key, value string, ok bool) {
	keys, values := 0, 0
	for entry != "" {
		f, rest, ok := step(entry)
		entry = rest
		switch {
		case !ok:
			return "", "", false
		case f.is(fieldKey):
			key = f.value
			keys++
		case f.is(fieldValue):
			value = f.value
			values++
		}
	}
	return key, value, keys < 2 && values < 2
}

// field is one field as it stands in a message.
type field struct {
	number uint64
	wire   uint64
	value  string // of wireBytes
}

func (f field) is(number uint64) bool { return f.number == number && f.wire == wireBytes }

// The wire types of the Protocol Buffers encoding. Groups, which are deprecated,
// are left to the ordinary path.
const (
	wireVarint = 0
	wireEight  = 1
	wireBytes  = 2
	wireFour   = 5
)

const largestField = 1<<29 - 1

// step takes one field off the front of text.
func step(text string) (f field, rest string, ok bool) {
	// Nearly every field has a number below 16 and less than 128 bytes.
	if len(text) > 1 && text[0] < 0x80 && text[0]&7 == wireBytes && text[0] > 7 && text[1] < 0x80 {
		if length := int(text[1]); length <= len(text)-2 {
			return field{uint64(text[0] >> 3), wireBytes, text[2 : 2+length]}, text[2+length:], true
		}
		return f, "", false
	}
	tag, text, ok := varint(text)
	if f.number, f.wire = tag>>3, tag&7; !ok || f.number == 0 || f.number > largestField {
		return f, "", false
	}
	length := uint64(0)
	switch f.wire {
	case wireVarint:
		_, text, ok = varint(text)
	case wireEight:
		length = 8
	case wireFour:
		length = 4
	case wireBytes:
		length, text, ok = varint(text)
	default:
		ok = false
	}
	if !ok || length > uint64(len(text)) {
		return f, "", false
	}
	if f.wire == wireBytes {
		f.value = text[:length]
	}
	return f, text[length:], true
}

// varint takes a number of up to ten bytes off the front of text.
func varint(text string) (n uint64, rest string, ok bool) {
	for i := 0; i < len(text) && i < 10; i++ {
		c := text[i]
		if i == 9 && c > 1 {
			return 0, "", false // more than 64 bits
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return n, text[i+1:], true
		}
	}
	return 0, "", false
}
