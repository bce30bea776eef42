package routes

import (
	"iter"
	"slices"
	"strings"
)

// Finding is what a table says of a request. The zero value is the one of which
// nothing may be concluded.
type Finding uint8

const (
	// Unclear is a path that someone behind the gate may read as another one. No
	// route may be taken to be its own, whatever it looks like.
	Unclear Finding = iota
	// Unknown is a path that no route names: 404.
	Unknown
	// OtherMethod is a path that routes name for other methods: 405.
	OtherMethod
	// Matched is a request of a route.
	Matched
)

// String names a finding as an operator knows it.
func (f Finding) String() string {
	switch f {
	case Unknown:
		return "no route names the path"
	case OtherMethod:
		return "no route of the path has the method"
	case Matched:
		return "a route"
	default:
		return "a path that can be read in two ways"
	}
}

// Index finds the routes of requests as Envoy does on what is rendered of the
// table: exact paths before templates, those before prefixes, the longest first,
// and of one path the route that has the method. It may be used by any number of
// goroutines and allocates nothing.
type Index struct {
	all       []Route // in the order of Compare
	exact     map[string][]*Route
	templates []template // in the order of Compare
	prefixes  map[string][]*Route
	longest   int // of the prefixes
}

type template struct {
	segments []string
	routes   []*Route
}

// Index prepares the table, which must be one that Validate finds no fault with.
func (t Table) Index() *Index {
	all := slices.Clone(t.Routes)
	x := &Index{all: all, exact: map[string][]*Route{}, prefixes: map[string][]*Route{}}
	slices.SortStableFunc(all, func(a, b Route) int { return Compare(a.Match, b.Match) })
	for i := range all {
		r := &all[i]
		switch m := r.Match; {
		case m.Path != "":
			x.exact[m.Path] = append(x.exact[m.Path], r)
		case m.Template != "":
			if i > 0 && all[i-1].Match == m {
				last := &x.templates[len(x.templates)-1]
				last.routes = append(last.routes, r)
				continue
			}
			x.templates = append(x.templates, template{strings.Split(m.Template, "/"), []*Route{r}})
		default:
			x.prefixes[m.Prefix] = append(x.prefixes[m.Prefix], r)
			x.longest = max(x.longest, len(m.Prefix))
		}
	}
	return x
}

// Routes are all that Match may find.
func (x *Index) Routes() iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		for i := range x.all {
			if !yield(&x.all[i]) {
				return
			}
		}
	}
}

// Match finds the route of one request. Whoever asks of many keeps an Index.
func (t Table) Match(method, path string) (*Route, Finding) { return t.Index().Match(method, path) }

// Match finds the route of a request by its path, of which a query is no part. The
// route is nil unless the finding is Matched, and must not be changed.
func (x *Index) Match(method, path string) (*Route, Finding) {
	path, _, _ = strings.Cut(path, "?")
	if !canonical(path) {
		return nil, Unclear
	}
	named := x.named(path)
	if named == nil {
		return nil, Unknown
	}
	for _, r := range named {
		if r.Answer != nil || slices.Contains(r.Methods, method) {
			return r, Matched
		}
	}
	return nil, OtherMethod
}

// named are the routes of the most specific match that takes the path.
func (x *Index) named(path string) []*Route {
	if found, ok := x.exact[path]; ok {
		return found
	}
	for i := range x.templates {
		if x.templates[i].takes(path) {
			return x.templates[i].routes
		}
	}
	// The path itself and then what is above it, from where prefixes begin: a
	// client that sends a long path must not choose how often this goes round.
	above := path
	if len(above) > x.longest {
		above = above[:x.longest+1]
		above = above[:strings.LastIndexByte(above, '/')]
	}
	for above != "" {
		if found, ok := x.prefixes[above]; ok {
			return found
		}
		above = above[:strings.LastIndexByte(above, '/')]
	}
	return nil
}

func (t *template) takes(path string) bool {
	for i, want := range t.segments {
		segment, rest, more := strings.Cut(path, "/")
		if segment != want && (want != UUIDSegment || !isUUID(segment)) {
			return false
		}
		if more != (i < len(t.segments)-1) {
			return false
		}
		path = rest
	}
	return true
}

// isUUID is uuidRegexp.
func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if text[i] != '-' {
				return false
			}
		} else if _, ok := digit(text[i]); !ok {
			return false
		}
	}
	return true
}
