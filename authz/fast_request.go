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

// The tags of the fields that are read: number and wire type (attribute_context.proto
// and external_auth.proto of envoy.service.auth.v3). Each is of one byte.
const (
	fieldAttributes = 1<<3 | wireBytes // CheckRequest

	fieldRequest    = 4<<3 | wireBytes // AttributeContext
	fieldExtensions = 10<<3 | wireBytes

	fieldHTTP = 2<<3 | wireBytes // AttributeContext.Request

	fieldMethod    = 2<<3 | wireBytes // AttributeContext.HttpRequest
	fieldHeaders   = 3<<3 | wireBytes
	fieldPath      = 4<<3 | wireBytes
	fieldHeaderMap = 13<<3 | wireBytes

	fieldKey   = 1<<3 | wireBytes // an entry of any map
	fieldValue = 2<<3 | wireBytes
)

// fastRequest reads a CheckRequest into r, which is a zero one. The texts of the
// request are parts of asked. Where it gives up, r is worth nothing.
func fastRequest(asked string, r *request) bool {
	attributes, ok := only(fieldAttributes, asked)
	if !ok {
		return false
	}
	inner, seen := "", false
	for at := 0; at < len(attributes); {
		tag, from, to, ok := step(attributes, at)
		if at = to; !ok {
			return false
		}
		switch tag {
		case fieldExtensions:
			if !r.extension(attributes[from:to]) {
				return false
			}
		case fieldRequest:
			if seen {
				return false // the ordinary decoder merges two
			}
			inner, seen = attributes[from:to], true
		}
	}
	http, ok := only(fieldHTTP, inner)
	if !ok {
		return false
	}
	for at := 0; at < len(http); {
		tag, from, to, ok := step(http, at)
		if at = to; !ok {
			return false
		}
		switch tag {
		case fieldHeaders:
			if !r.headerEntry(http[from:to]) {
				return false
			}
		case fieldMethod:
			value := http[from:to]
			if r.method = value; !utf8.ValidString(value) {
				return false
			}
		case fieldPath:
			// Clients choose it, and need not make it text. The ordinary path would
			// refuse them with a fault of ours, which this is not.
			value := http[from:to]
			if r.path = ""; utf8.ValidString(value) {
				r.path = withoutQuery(value)
			}
		case fieldHeaderMap: // encode_raw_headers is on, which has rules of its own
			return false
		}
	}
	return true
}

// only returns the one occurrence of a message in a message, or an empty one.
func only(wanted byte, text string) (out string, ok bool) {
	seen := false
	for at := 0; at < len(text); {
		tag, from, to, ok := step(text, at)
		if at = to; !ok {
			return "", false
		}
		if tag == wanted {
			if seen {
				return "", false
			}
			out, seen = text[from:to], true
		}
	}
	return out, true
}

// extension takes one entry of the context extensions. Of two with one key the
// later counts, as in any map of protobuf.
func (r *request) extension(entry string) bool {
	key, value, ok := entryOf(entry)
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
	key, value, ok := entryOf(entry)
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

// entryOf reads an entry of a map of texts. One with two keys or two values, of which
// the ordinary decoder looks at both, is left to it.
func entryOf(entry string) (key, value string, ok bool) {
	// As everybody writes it: a key of less than 128 bytes, and a value up to the end.
	if len(entry) > 1 && entry[0] == fieldKey && entry[1] < 0x80 {
		if at := 2 + int(entry[1]); at < len(entry) && entry[at] == fieldValue {
			if _, from, to, ok := step(entry, at); ok && to == len(entry) {
				return entry[2:at], entry[from:], true
			}
		}
	}
	keys, values := 0, 0
	for at := 0; at < len(entry); {
		tag, from, to, ok := step(entry, at)
		if at = to; !ok {
			return "", "", false
		}
		switch tag {
		case fieldKey:
			key = entry[from:to]
			keys++
		case fieldValue:
			value = entry[from:to]
			values++
		}
	}
	return key, value, keys < 2 && values < 2
}

// The wire types of the Protocol Buffers encoding. Groups, which are deprecated,
// are left to the ordinary path.
const (
	wireVarint = 0
	wireEight  = 1
	wireBytes  = 2
	wireFour   = 5
)

const largestField = 1<<29 - 1

// step reads the field that begins at a place in text: its value lies between two
// others, of which the second is where the next one begins. The tag is 0 where the
// field is none that can be of interest here: of another wire type than wireBytes, or
// with a number above 15.
func step(text string, at int) (tag byte, from, to int, ok bool) {
	// Nearly every field has a number below 16 and less than 16 KiB.
	if at < len(text)-2 {
		if tag = text[at]; tag&7 == wireBytes && tag >= 1<<3 && tag < 0x80 {
			from, to = at+2, at+2+int(text[at+1])
			if text[at+1] < 0x80 {
				return tag, from, to, to <= len(text)
			}
			if text[at+2] < 0x80 {
				from, to = at+3, at+3+(int(text[at+1]&0x7f)|int(text[at+2])<<7)
				return tag, from, to, to <= len(text)
			}
		}
	}
	return oddStep(text, at)
}

func oddStep(text string, at int) (tag byte, from, to int, ok bool) {
	whole, at, ok := varint(text, at)
	number, wire := whole>>3, whole&7
	if !ok || number == 0 || number > largestField {
		return 0, 0, 0, false
	}
	length := uint64(0)
	switch wire {
	case wireVarint:
		_, at, ok = varint(text, at)
	case wireEight:
		length = 8
	case wireFour:
		length = 4
	case wireBytes:
		length, at, ok = varint(text, at)
	default:
		ok = false
	}
	if !ok || length > uint64(len(text)-at) {
		return 0, 0, 0, false
	}
	if wire == wireBytes && number < 16 {
		tag = byte(whole)
	}
	return tag, at, at + int(length), true
}

// varint reads the number of up to ten bytes that begins at a place in text, and says
// where the next thing does.
func varint(text string, at int) (n uint64, next int, ok bool) {
	for i := 0; i < 10 && at < len(text); i++ {
		c := text[at]
		if i == 9 && c > 1 {
			return 0, at, false // more than 64 bits
		}
		n |= uint64(c&0x7f) << (7 * i)
		if at++; c < 0x80 {
			return n, at, true
		}
	}
	return 0, at, false
}
