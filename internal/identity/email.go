package identity

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrNotEmail is returned for a text that nobody's address can be.
var ErrNotEmail = errors.New("not an email address")

// The limits of RFC 5321 section 4.5.3.1 and RFC 1035 section 2.3.4, in
// characters.
const (
	emailLimit = 254
	localLimit = 64
	labelLimit = 63
)

// CheckEmail accepts what the replaced gateways accepted: one unquoted local
// part and a domain of two labels or more, in ASCII or in letters and digits of
// any script (RFC 6531), and nothing around or between them. Nothing is folded,
// trimmed or normalised.
func CheckEmail(text string) error {
	local, domain, found := strings.Cut(text, "@")
	labels := strings.Split(domain, ".")
	if !found || !utf8.ValidString(text) || utf8.RuneCountInString(text) > emailLimit ||
		utf8.RuneCountInString(local) > localLimit || len(labels) < 2 {
		return ErrNotEmail
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool {
			return !isWordRune(r) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
		}) {
			return ErrNotEmail
		}
	}
	for _, label := range labels {
		if label == "" || utf8.RuneCountInString(label) > labelLimit || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isWordRune(r) && r != '-' }) {
			return ErrNotEmail
		}
	}
	return nil
}

func isWordRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r)
}
