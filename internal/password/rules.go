package password

import (
	_ "embed" // the list of common passwords
	"errors"
	"sort"
	"strings"
	"unicode/utf8"
)

// The length of a new password in characters. NIST SP 800-63B-4 section 3.1.1.2
// asks for 8 at least; the upper bound keeps a request small.
const (
	ShortestNew = 8
	LongestNew  = 1024
)

// Why a new password may not be set, as the end of a sentence that begins with
// "the password". None of them repeats it. ErrNUL and ErrTooLong are others.
var (
	ErrNotUTF8   = errors.New("is not valid UTF-8")
	ErrHoldsNUL  = errors.New("holds a NUL character")
	ErrShort     = errors.New("is shorter than 8 characters")
	ErrLong      = errors.New("is longer than 1024 characters")
	ErrCommon    = errors.New("is one of the most common passwords")
	ErrGuessable = errors.New("equals the user's email, the user's name or the product's name")
)

// common are the passwords that are tried first, one a line, sorted by their
// bytes and in lower case; common.md says whence.
//
//go:embed common.txt
var common string

// CheckNew says why a password may not be set, nil if it may. known are words
// that somebody would guess first; empty ones are passed over. There are no rules
// of composition: they make passwords worse.
func CheckNew(password string, known ...string) error {
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		return ErrNotUTF8
	case strings.IndexByte(password, 0) >= 0:
		return ErrHoldsNUL
	case n < ShortestNew:
		return ErrShort
	case n > LongestNew:
		return ErrLong
	}
	for _, word := range known {
		if word != "" && strings.EqualFold(password, word) {
			return ErrGuessable
		}
	}
	if isCommon(strings.ToLower(password)) {
		return ErrCommon
	}
	return nil
}

// isCommon looks a password up in the list as it lies in the binary, with no
// copy of it made at start.
func isCommon(password string) bool {
	if strings.IndexByte(password, '\n') >= 0 {
		return false
	}
	// lineAt is the line that the byte at i belongs to, with its newline.
	lineAt := func(i int) string {
		start := strings.LastIndexByte(common[:i], '\n') + 1
		return common[start : i+strings.IndexByte(common[i:], '\n')]
	}
	i := sort.Search(len(common), func(i int) bool { return lineAt(i) >= password })
	return i < len(common) && lineAt(i) == password
}
