package routes

import (
	"unicode"
	"unicode/utf8"
)

// canonical reports that a path has one reading, by whoever it is read: no empty
// and no dot segment but the empty one at the end, no parameters, no character
// that some servers take for a slash, no control character, and nothing escaped
// that could stand as it is or that means something to anybody. Nearly all of that
// is mended or refused by Envoy as we configure it; in a mesh that normalises less,
// or not at all, it arrives.
//
// What is left to be escaped are spaces, quotes, brackets, braces and the like, and
// characters beyond ASCII in valid UTF-8.
func canonical(path string) bool {
	if path == "" || path[0] != '/' {
		return false // "*", an authority, a URL
	}
	start := 1 // of the segment
	for i := 1; i < len(path); {
		switch c := path[i]; {
		case c == '/':
			if dots(path[start:i]) {
				return false
			}
			i++
			start = i
		case plain(c):
			i++
		case c == '%':
			length := escape(path[i:])
			if length == 0 {
				return false
			}
			i += length
		default:
			return false
		}
	}
	return start == len(path) || !dots(path[start:])
}

// dots reports a segment that is one no longer once a path is in normal form.
func dots(segment string) bool { return segment == "" || segment == "." || segment == ".." }

// plain are the characters of plainPath but the slash: those that a table may
// have in a path.
func plain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '.', '_', '~', '!', '$', '&', '\'', '(', ')', '*', '+', ',', '=', ':', '@', '-':
		return true
	}
	return false
}

// escape is the length of an escaped character at the beginning of text; 0: there
// is none, or one that has to be taken for something else.
func escape(text string) int {
	var encoded [utf8.UTFMax]byte
	n := 0
	for n < len(encoded) && len(text) >= 3*n+3 && text[3*n] == '%' {
		high, isDigit := digit(text[3*n+1])
		low, areDigits := digit(text[3*n+2])
		if !isDigit || !areDigits {
			break
		}
		encoded[n] = high<<4 | low
		n++
	}
	r, size := utf8.DecodeRune(encoded[:n])
	switch {
	case r == utf8.RuneError && size <= 1: // no digits, or no UTF-8
		return 0
	case unicode.IsControl(r):
		return 0
	case r < utf8.RuneSelf && (plain(byte(r)) || separates(byte(r))):
		return 0
	}
	return 3 * size
}

// separates are the characters at which somebody ends a path or a part of one, and
// the one that begins an escape.
func separates(c byte) bool {
	switch c {
	case '/', '\\', ';', '?', '#', '%':
		return true
	}
	return false
}

func digit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
