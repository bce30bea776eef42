package routes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Match is a family of paths. Exactly one of its fields is set.
type Match struct {
	// Path is one exact path.
	Path string
	// Template is a path in which whole segments may be "{uuid}": 36 characters
	// with hyphens, in any letter case.
	Template string
	// Prefix is a path together with everything below it: /a takes /a and /a/b,
	// never /ab.
	Prefix string
}

// A UUID in a template, and as RE2.
const (
	UUIDSegment = "{uuid}"
	UUIDPattern = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
)

var uuidRegexp = regexp.MustCompile("^" + UUIDPattern + "$")

// String is the path as the table writes it.
func (m Match) String() string { return m.Path + m.Template + m.Prefix }

// key is the field that is set, as the table names it.
func (m Match) key() string {
	switch {
	case m.Path != "":
		return "path"
	case m.Template != "":
		return "template"
	case m.Prefix != "":
		return "prefix"
	}
	return ""
}

// rank orders matches from the one that wins to the one that loses.
func (m Match) rank() int {
	switch {
	case m.Path != "":
		return 0
	case m.Template != "":
		return 1
	default:
		return 2
	}
}

// Compare sorts the more specific match first, which is the order in which
// routes are tried.
func Compare(a, b Match) int {
	if d := a.rank() - b.rank(); d != 0 {
		return d
	}
	if d := len(b.String()) - len(a.String()); d != 0 {
		return d
	}
	return strings.Compare(a.String(), b.String())
}

// Regexp is the template as RE2, to be matched against a whole path.
func (m Match) Regexp() string {
	segments := strings.Split(m.Template, "/")
	for i, s := range segments {
		if s == UUIDSegment {
			segments[i] = UUIDPattern
		} else {
			segments[i] = regexp.QuoteMeta(s)
		}
	}
	return strings.Join(segments, "/")
}

// under reports whether every path of m is also a path of wide.
func (m Match) under(wide Match) bool {
	if wide.Prefix != "" {
		return m.String() == wide.Prefix || strings.HasPrefix(m.String(), wide.Prefix+"/")
	}
	if m.Prefix != "" {
		return false
	}
	return segmentsWithin(m.String(), wide.String(), false)
}

// overlaps reports whether one path may belong to two matches of the same rank
// of which neither is the more specific.
func (m Match) overlaps(o Match) bool {
	if m.rank() != o.rank() {
		return false
	}
	if m.Template == "" {
		return m == o
	}
	return segmentsWithin(m.Template, o.Template, true)
}

// segmentsWithin compares two paths segment by segment. A {uuid} of wide takes
// {uuid} and every literal UUID; with both set, a {uuid} of narrow does too.
func segmentsWithin(narrow, wide string, both bool) bool {
	n, w := strings.Split(narrow, "/"), strings.Split(wide, "/")
	if len(n) != len(w) {
		return false
	}
	for i := range n {
		switch {
		case n[i] == w[i]:
		case w[i] == UUIDSegment && uuidRegexp.MatchString(n[i]):
		case both && n[i] == UUIDSegment && uuidRegexp.MatchString(w[i]):
		default:
			return false
		}
	}
	return true
}

// plainPath is what is left of a path after Envoy has normalised it; any other
// spelling in a table would never match. Escapes are refused because the same
// character could then be written in two ways.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._~!$&'()*+,=:@/-]*$`)

func (m Match) validate() error {
	set := 0
	for _, field := range []string{m.Path, m.Template, m.Prefix} {
		if field != "" {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("want exactly one of path, template and prefix")
	}
	path := m.String()
	literal := path
	if m.Template != "" {
		if !slices.Contains(strings.Split(path, "/"), UUIDSegment) {
			return fmt.Errorf("template %q has no {uuid} segment: use path", path)
		}
		literal = strings.ReplaceAll(path, "/"+UUIDSegment, "/x")
	}
	if !plainPath.MatchString(literal) {
		if m.Template == "" && strings.Contains(path, UUIDSegment) {
			return fmt.Errorf("%s %q: {uuid} belongs in a template", m.key(), path)
		}
		return fmt.Errorf("path %q: want / and then unescaped path characters", path)
	}
	segments := strings.Split(literal, "/")[1:]
	for i, s := range segments {
		last := i == len(segments)-1
		if s == "." || s == ".." || (s == "" && !last) {
			return fmt.Errorf("path %q is not in normal form and could never match", path)
		}
	}
	if m.Prefix != "" && strings.HasSuffix(m.Prefix, "/") {
		return fmt.Errorf("prefix %q must not end in a slash", path)
	}
	return nil
}
