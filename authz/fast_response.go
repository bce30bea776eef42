package authz

import (
	"strings"

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

// answers are what is the same in many of them, encoded once.
type answers struct {
	refusals map[*problem.Problem]prepared
	allowed  string // what allows say of themselves in the metadata

	setUser, setCompany text // of headers
	setBoth             pair
	user, company       text // in the metadata
	both                pair
}

// prepared is an answer that says no, or that says nothing: all of it but the
// metadata, and what the metadata says of it.
type prepared struct{ answer, said string }

// text is a field whose value is an identity's, before and behind the value.
type text struct{ before, behind string }

func (t text) append(b, value []byte) []byte {
	b = append(b, t.before...)
	b = append(b, value...)
	return append(b, t.behind...)
}

func (t text) size() int { return len(t.before) + idLength + len(t.behind) }

// pair is two such fields in a row, which nearly every answer has.
type pair struct{ before, between, behind string }

func inRow(a, b text) pair { return pair{a.before, a.behind + b.before, b.behind} }

func (p *pair) append(b, first, second []byte) []byte {
	b = append(b, p.before...)
	b = append(b, first...)
	b = append(b, p.between...)
	b = append(b, second...)
	return append(b, p.behind...)
}

// idLength is that of an identity's text.
const idLength = 36

func newAnswers() (*answers, error) {
	a := &answers{refusals: map[*problem.Problem]prepared{}, allowed: verdict(decision{outcome: allowed})}
	around := func(encode func(b []byte, name, value string) []byte, name string) text {
		placeholder := strings.Repeat("x", idLength)
		before, behind, _ := strings.Cut(string(encode(nil, name, placeholder)), placeholder)
		return text{before, behind}
	}
	a.setUser, a.setCompany = around(appendSet, headerUser), around(appendSet, headerCompany)
	a.user, a.company = around(appendEntry, nameUser), around(appendEntry, nameCompany)
	a.setBoth, a.both = inRow(a.setUser, a.setCompany), inRow(a.user, a.company)
	for _, p := range problem.Decisions() {
		d := decision{}.refused(p)
		sealed, err := seal(answerTo(request{}, d))
		if err != nil {
			return nil, err
		}
		sealed.DynamicMetadata = nil
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(sealed)
		if err != nil {
			return nil, err
		}
		a.refusals[p] = prepared{string(b), verdict(d)}
	}
	return a, nil
}

func verdict(d decision) string {
	return string(appendEntry(appendEntry(nil, nameOutcome, d.outcome.String()), nameReason, d.reason()))
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

// append adds the answer to a check.
func (a *answers) append(b []byte, d *decision) (out []byte, ok bool) {
	var texts [2][idLength]byte
	user, company := texts[0][:0], texts[1][:0]
	if !d.identity.User.IsZero() {
		user = d.identity.User.AppendTo(user)
	}
	if !d.identity.Company.IsZero() {
		company = d.identity.Company.AppendTo(company)
	}
	if d.outcome == allowed {
		return a.appendMetadata(a.appendAllow(b, d, user, company), a.allowed, user, company), true
	}
	no, ok := a.refusals[d.problem]
	if !ok {
		return b, false
	}
	return a.appendMetadata(append(b, no.answer...), no.said, user, company), true
}

// appendAllow is the only place that writes status OK, which is an empty message.
func (a *answers) appendAllow(b []byte, d *decision, user, company []byte) []byte {
	email := d.identity.Email
	if d.anonymous {
		user, company, email = nil, nil, ""
	} else if !sendable(email) {
		email = ""
	}
	length := sizeSet(headerEmail, len(email))
	if len(user) > 0 {
		length += a.setUser.size()
	} else {
		length += sizeSet(headerUser, 0)
	}
	if len(company) > 0 {
		length += a.setCompany.size()
	} else {
		length += sizeSet(headerCompany, 0)
	}
	var digits [20]byte
	var lasts []byte
	if d.lasts > 0 {
		lasts = appendMilliseconds(digits[:0], d.lasts)
		length += sizeSet(headerLasts, len(lasts))
	}
	b = append(b, tagStatus, 0, tagOK)
	b = protowire.AppendVarint(b, uint64(length))
	switch {
	case len(user) > 0 && len(company) > 0:
		b = a.setBoth.append(b, user, company)
	case len(user) > 0:
		b = a.setUser.append(b, user)
		b = appendSet(b, headerCompany, "")
	case len(company) > 0:
		b = appendSet(b, headerUser, "")
		b = a.setCompany.append(b, company)
	default:
		b = appendSet(b, headerUser, "")
		b = appendSet(b, headerCompany, "")
	}
	b = appendSet(b, headerEmail, email)
	if len(lasts) > 0 {
		b = appendSet(b, headerLasts, lasts)
	}
	return b
}

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
func appendSet[text string | []byte](b []byte, name string, value text) []byte {
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
	nameUser    = "user_id"
	nameCompany = "company_id"
)

// appendMetadata tells the decision as metadata does in response.go. No name and
// no value here has more than 36 bytes, so that each length is of one byte but that
// of the whole.
func (a *answers) appendMetadata(b []byte, said string, user, company []byte) []byte {
	length := len(said)
	if len(user) > 0 {
		length += a.user.size()
	}
	if len(company) > 0 {
		length += a.company.size()
	}
	b = append(b, tagMetadata)
	b = protowire.AppendVarint(b, uint64(length))
	b = append(b, said...)
	switch {
	case len(user) > 0 && len(company) > 0:
		b = a.both.append(b, user, company)
	case len(user) > 0:
		b = a.user.append(b, user)
	case len(company) > 0:
		b = a.company.append(b, company)
	}
	return b
}

// appendEntry adds a field to the metadata.
func appendEntry(b []byte, name, value string) []byte {
	b = append(b, tagFields, byte(2+len(name)+2+2+len(value)), tagKey, byte(len(name)))
	b = append(b, name...)
	b = append(b, tagValue, byte(2+len(value)), tagString, byte(len(value)))
	return append(b, value...)
}
