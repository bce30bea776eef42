package authz

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/internal/problem"
)

// The fast path, second half; fast_request.go is the first. It writes the bytes of
// an answer without making a message of it first.
//
// response.go is the ordinary path, and says what is right: the refusals here are
// its own, made and sealed once, and what an allow looks like in bytes is compared
// with its by a fuzz test (FuzzBothPathsDecideAlike). An answer that is not among
// them, such as one that names claims, is left to it.

// refusals are the beginnings of the answers that say no or that say nothing: all
// of the answer but the metadata, which differs from one request to the next.
type refusals map[*problem.Problem][]byte

// newRefusals makes those of every problem that is always told alike.
func newRefusals() (refusals, error) {
	made := refusals{}
	for _, p := range problem.Decisions() {
		sealed, err := seal(answerTo(request{}, decision{}.refused(p)))
		if err != nil {
			return nil, err
		}
		sealed.DynamicMetadata = nil
		if made[p], err = (proto.MarshalOptions{Deterministic: true}).Marshal(sealed); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// The tags of the fields that are written (external_auth.proto of
// envoy.service.auth.v3, base.proto of envoy.config.core.v3, struct.proto of
// google.protobuf). Each is of one byte, and followed by a length.
const (
	tagStatus   = 1<<3 | wireBytes // CheckResponse
	tagOK       = 3<<3 | wireBytes
	tagMetadata = 4<<3 | wireBytes

	tagHeaders = 2<<3 | wireBytes // OkHttpResponse
	tagRemove  = 5<<3 | wireBytes

	tagHeader       = 1<<3 | wireBytes // HeaderValueOption
	tagAppend       = 2<<3 | wireBytes
	tagAppendAction = 3<<3 | wireVarint

	tagFields = 1<<3 | wireBytes // Struct
	tagString = 3<<3 | wireBytes // Value

	tagKey   = 1<<3 | wireBytes // HeaderValue, and an entry of any map
	tagValue = 2<<3 | wireBytes

	overwriteIfExistsOrAdd = 2
)

// write appends the answer to a check.
func (made refusals) write(b []byte, r *request, d *decision) (out []byte, ok bool) {
	var texts [2][36]byte
	user, company := texts[0][:0], texts[1][:0]
	if !d.identity.User.IsZero() {
		user = d.identity.User.AppendTo(user)
	}
	if !d.identity.Company.IsZero() {
		company = d.identity.Company.AppendTo(company)
	}
	if d.outcome == allowed {
		return appendMetadata(appendAllow(b, d, user, company), r, d, user, company), true
	}
	beginning, ok := made[d.problem]
	if !ok {
		return b, false
	}
	return appendMetadata(append(b, beginning...), r, d, user, company), true
}

// appendAllow is the only place that writes status OK, which is an empty message.
func appendAllow(b []byte, d *decision, user, company []byte) []byte {
	email := d.identity.Email
	if d.anonymous {
		user, company, email = nil, nil, ""
	} else if !sendable(email) {
		email = ""
	}
	length := sizeSet(headerUser, len(user)) + sizeSet(headerCompany, len(company)) + sizeSet(headerEmail, len(email))
	b = append(b, tagStatus, 0, tagOK)
	b = protowire.AppendVarint(b, uint64(length))
	b = appendSet(b, headerUser, user)
	b = appendSet(b, headerCompany, company)
	return appendSet(b, headerEmail, email)
}

// bytestring is a text in either of its forms, so that neither has to be made into
// the other.
type bytestring interface{ string | []byte }

// closing is the length of what ends a header that is set.
const closing = 4

// sizeSet is what the setting of a header takes, or its removal where it has no
// value.
func sizeSet(name string, value int) int {
	if value == 0 {
		return 2 + len(name)
	}
	return 1 + protowire.SizeBytes(sizeOption(name, value))
}

func sizeOption(name string, value int) int {
	return 1 + protowire.SizeBytes(sizePair(name, value)) + closing
}

// sizePair is a short key and a value.
func sizePair(key string, value int) int {
	return 2 + len(key) + 1 + protowire.SizeBytes(value)
}

// appendSet sets a header, or removes it where it has no value.
func appendSet[T bytestring](b []byte, name string, value T) []byte {
	if len(value) == 0 {
		b = append(b, tagRemove, byte(len(name)))
		return append(b, name...)
	}
	b = append(b, tagHeaders)
	b = protowire.AppendVarint(b, uint64(sizeOption(name, len(value))))
	b = append(b, tagHeader)
	b = protowire.AppendVarint(b, uint64(sizePair(name, len(value))))
	b = append(b, tagKey, byte(len(name)))
	b = append(b, name...)
	b = append(b, tagValue)
	b = protowire.AppendVarint(b, uint64(len(value)))
	b = append(b, value...)
	// append is false, which is an empty message.
	return append(b, tagAppend, 0, tagAppendAction, overwriteIfExistsOrAdd)
}

// The names in the metadata, which are those of proto's Decision.
const (
	nameOutcome = "outcome"
	nameReason  = "reason"
	nameRoute   = "route"
	nameMode    = "mode"
	nameUser    = "user_id"
	nameCompany = "company_id"
	nameRequest = "request_id"
)

// appendMetadata tells the decision as metadata does in response.go. No name and
// no value here is longer than maxName, so that each length is of one byte but
// that of the whole.
func appendMetadata(b []byte, r *request, d *decision, user, company []byte) []byte {
	outcome, reason, mode := d.outcome.String(), d.reason(), d.mode.String()
	length := sizeEntry(nameOutcome, len(outcome)) +
		sizeEntry(nameReason, len(reason)) +
		sizeEntry(nameRoute, len(r.route)) +
		sizeEntry(nameMode, len(mode)) +
		sizeEntry(nameUser, len(user)) +
		sizeEntry(nameCompany, len(company)) +
		sizeEntry(nameRequest, len(r.id))
	b = append(b, tagMetadata)
	b = protowire.AppendVarint(b, uint64(length))
	b = appendEntry(b, nameOutcome, outcome)
	b = appendEntry(b, nameReason, reason)
	b = appendEntry(b, nameRoute, r.route)
	b = appendEntry(b, nameMode, mode)
	b = appendEntry(b, nameUser, user)
	b = appendEntry(b, nameCompany, company)
	return appendEntry(b, nameRequest, r.id)
}

func sizeEntry(name string, value int) int {
	if value == 0 {
		return 0
	}
	return 2 + sizeNamed(name, value)
}

func sizeNamed(name string, value int) int { return 2 + len(name) + 2 + 2 + value }

// appendEntry adds a text, if there is one.
func appendEntry[T bytestring](b []byte, name string, value T) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(b, tagFields, byte(sizeNamed(name, len(value))), tagKey, byte(len(name)))
	b = append(b, name...)
	b = append(b, tagValue, byte(2+len(value)), tagString, byte(len(value)))
	return append(b, value...)
}
