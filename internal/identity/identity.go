// Package identity holds the words every part of Gatehouse shares: who a user
// is, which company it acts for, what a verified token said and what the
// database says now.
//
// It must never know how any of it is spelled elsewhere: no JWT claim name, no
// SQL, no HTTP header and no protobuf message appears here.
package identity

import (
	"errors"

	"github.com/google/uuid"
)

// The identifiers are distinct types so that the compiler refuses to look a
// company up as a user. The zero value of each means "none".
type (
	// UserID names a row of users.
	UserID uuid.UUID
	// CompanyID names a company, which need not have a row of its own.
	CompanyID uuid.UUID
	// SessionID names one login.
	SessionID uuid.UUID
)

// ErrNotUUID is returned for every text that is not a UUID in its one accepted
// spelling.
var ErrNotUUID = errors.New("not a UUID of 36 characters with hyphens")

// textLength is the length of the RFC 9562 section 4 text form. The braces,
// the URN prefix and the bare 32 digits that uuid.Parse takes too are refused:
// an identifier with several spellings is an identifier that two parts of a
// system can disagree on.
const textLength = 36

func parse(text string) (uuid.UUID, error) {
	if len(text) != textLength {
		return uuid.Nil, ErrNotUUID
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, ErrNotUUID
	}
	return id, nil
}

// ParseUserID reads 36 characters with hyphens in any letter case.
func ParseUserID(text string) (UserID, error) {
	id, err := parse(text)
	return UserID(id), err
}

// ParseCompanyID reads 36 characters with hyphens in any letter case.
func ParseCompanyID(text string) (CompanyID, error) {
	id, err := parse(text)
	return CompanyID(id), err
}

// ParseSessionID reads 36 characters with hyphens in any letter case.
func ParseSessionID(text string) (SessionID, error) {
	id, err := parse(text)
	return SessionID(id), err
}

// String is the canonical lower-case form, the only one that reaches an
// upstream, a token or a log.
func (id UserID) String() string { return uuid.UUID(id).String() }

// String is the canonical lower-case form.
func (id CompanyID) String() string { return uuid.UUID(id).String() }

// String is the canonical lower-case form.
func (id SessionID) String() string { return uuid.UUID(id).String() }

// AppendTo appends what String returns, and allocates nothing for it.
func (id UserID) AppendTo(b []byte) []byte { return appendText(b, id) }

// AppendTo appends what String returns, and allocates nothing for it.
func (id CompanyID) AppendTo(b []byte) []byte { return appendText(b, id) }

func appendText(b []byte, id [16]byte) []byte {
	const digits = "0123456789abcdef"
	text := [textLength]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	for i, at := range [len(id)]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		text[at], text[at+1] = digits[id[i]>>4], digits[id[i]&0xf]
	}
	return append(b, text[:]...)
}

// IsZero reports that no user is named.
func (id UserID) IsZero() bool { return id == UserID{} }

// IsZero reports that no company is named.
func (id CompanyID) IsZero() bool { return id == CompanyID{} }

// IsZero reports that no session is named.
func (id SessionID) IsZero() bool { return id == SessionID{} }

// Identity is what an upstream is told about an allowed request.
type Identity struct {
	User    UserID
	Company CompanyID // zero: the user acts for no company
	Email   string    // empty: none known, or none that can stand in a header
}
