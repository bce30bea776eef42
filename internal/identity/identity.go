// Package identity holds the words every part of Gatehouse shares: who a user
// is, which company it acts for, what a verified token said and what the
// database says now.
//
// It must never know how any of it is spelled elsewhere: no JWT claim name, no
// SQL, no HTTP header and no protobuf message appears here.
package identity

import (
	"encoding/binary"
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

// appendText is on the way of every check, twice, and therefore writes eight digits
// at a time.
func appendText(b []byte, id [16]byte) []byte {
	order := binary.BigEndian
	text := [textLength]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	var middle [16]byte
	order.PutUint64(text[0:], eightDigits(order.Uint32(id[0:])))
	order.PutUint64(middle[0:], eightDigits(order.Uint32(id[4:])))
	order.PutUint64(middle[8:], eightDigits(order.Uint32(id[8:])))
	order.PutUint64(text[28:], eightDigits(order.Uint32(id[12:])))
	copy(text[9:13], middle[0:4])
	copy(text[14:18], middle[4:8])
	copy(text[19:23], middle[8:12])
	copy(text[24:28], middle[12:16])
	return append(b, text[:]...)
}

// eightDigits are the hexadecimal digits of n, the first of them in the highest byte.
func eightDigits(n uint32) uint64 {
	const each = 0x0101010101010101
	// A half of a byte into each byte, and then its digit: those past 9 lie as far
	// behind '9' as 'a' does.
	v := uint64(n)
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	v = (v | v<<4) & 0x0f0f0f0f0f0f0f0f
	letters := (v + 6*each) >> 4 & each
	return v + '0'*each + letters*('a'-'0'-10)
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
