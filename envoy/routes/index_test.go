package routes_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/envoy/routes"
)

const oneUUID = "0A1b2c3d-1111-4111-8111-00000000000f"

// many has matches of every kind around the same paths.
const many = `
upstreams: { ingest: {} }
routes:
  - { name: root, path: /, methods: [GET], mode: none, upstream: ingest }
  - { name: a, prefix: /a, methods: [GET, POST], mode: initial, upstream: ingest }
  - { name: a-b, prefix: /a/b, methods: [GET], mode: strict, upstream: ingest }
  - { name: a-b-write, prefix: /a/b, methods: [PUT, OPTIONS], mode: strict, roles: [admin], upstream: ingest }
  - { name: a-exact, path: /a/b/c, methods: [POST], mode: strict, upstream: ingest }
  - { name: slash, path: /a/b/, methods: [DELETE], mode: strict, upstream: ingest }
  - { name: one, template: "/a/{uuid}", methods: [GET], mode: strict, upstream: ingest }
  - { name: two, template: "/a/{uuid}/b/{uuid}", methods: [GET], mode: strict, upstream: ingest }
  - { name: of-one, path: /a/0a1b2c3d-1111-4111-8111-00000000000f, methods: [POST], mode: strict, upstream: ingest }
  - { name: gone, prefix: /a/old, answer: { status: 410, detail: Gone } }
  - { name: odd, path: "/A.z_~!$&'()*+,=:@-9", methods: [GET], mode: strict, upstream: ingest }
`

func index(t testing.TB, text string) *routes.Index {
	t.Helper()
	table, err := routes.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return table.Index()
}

func TestTheMostSpecificRouteIsFound(t *testing.T) {
	t.Parallel()
	x := index(t, many)
	for _, c := range []struct {
		name, method, path string
		want               string // a route, or a finding
	}{
		{"the root", "GET", "/", "root"},
		{"the root takes nothing below it", "GET", "/x", routes.Unknown.String()},
		{"a prefix itself", "GET", "/a", "a"},
		{"a prefix with a slash behind it", "GET", "/a/", "a"},
		{"what is below a prefix", "POST", "/a/x/y/z", "a"},
		{"what only begins like a prefix", "GET", "/ab", routes.Unknown.String()},
		{"the longer prefix", "GET", "/a/b/x", "a-b"},
		{"a prefix of two routes, by the method", "PUT", "/a/b/x", "a-b-write"},
		{"a prefix of two routes, of which none has the method", "POST", "/a/b/x", routes.OtherMethod.String()},
		{"an exact path before a prefix", "POST", "/a/b/c", "a-exact"},
		{"and it has the last word on methods", "GET", "/a/b/c", routes.OtherMethod.String()},
		{"an exact path with a slash at its end", "DELETE", "/a/b/", "slash"},
		{"a template before a prefix", "GET", "/a/" + oneUUID, "one"},
		{"a template has the last word on methods", "POST", "/a/" + oneUUID, routes.OtherMethod.String()},
		{"a template of two", "GET", "/a/" + oneUUID + "/b/" + strings.ToLower(oneUUID), "two"},
		{"more than a template", "GET", "/a/" + oneUUID + "/", "a"},
		{"a UUID without hyphens", "GET", "/a/" + strings.ReplaceAll(oneUUID, "-", ""), "a"},
		{"a UUID with a stranger in it", "GET", "/a/" + strings.Replace(oneUUID, "f", "g", 1), "a"},
		{"a UUID with its hyphens elsewhere", "GET", "/a/0A1b2c3d1-111-4111-8111-00000000000f", "a"},
		{"an exact UUID before a template", "POST", "/a/" + strings.ToLower(oneUUID), "of-one"},
		{"an answer, whatever the method", "BREW", "/a/old/x", "gone"},
		{"another letter case", "GET", "/A", routes.Unknown.String()},
		{"a method in another letter case", "get", "/a", routes.OtherMethod.String()},
		{"HEAD is not GET", "HEAD", "/a", routes.OtherMethod.String()},
		{"no method", "", "/a", routes.OtherMethod.String()},
		{"every character of a path", "GET", "/A.z_~!$&'()*+,=:@-9", "odd"},
		{"a query", "GET", "/a?b", "a"},
		{"a query with a path in it", "GET", "/x?/../a", routes.Unknown.String()},
		{"a query with anything", "GET", "/a?//%2f;\\#\x00", "a"},
		{"a path far longer than any prefix", "GET", "/a" + strings.Repeat("/x", 30_000), "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, found := x.Match(c.method, c.path)
			got := found.String()
			if r != nil {
				got = r.Name
			}
			if got != c.want || (r != nil) != (found == routes.Matched) {
				t.Errorf("%s (%s), want %s", got, found, c.want)
			}
		})
	}
}

func TestAPathOfTwoReadingsIsNoRoutes(t *testing.T) {
	t.Parallel()
	x := index(t, many)
	for path, plain := range map[string]bool{
		"/a/x": true, "/a/x/": true, "/a/...": true, "/a/.x": true, "/a/x.": true, "/a/..x": true, "/a/~*:@": true,
		"/a/x%20y": true, "/a/%7Bid%7d": true, "/a/%22%3C%3E%5b%5D%5e%60%7C": true,
		"/a/Gr%C3%B6%c3%9Fe": true, "/a/%E2%82%AC": true, "/a/%F0%9F%94%91": true,

		"": false, "*": false, "a": false, "a/x": false, "//a": false, "http://gate.test/a": false, "gate.test:443": false, " /a": false,
		"/a//x": false, "/a///": false, "//": false, "/a/./x": false, "/a/.": false, "/a/..": false, "/a/../x": false, "/.": false, "/..": false,
		`/a\x`: false, `/a/..\x`: false, "/a/x;y": false, "/a/..;/x": false, "/a;": false, "/a/;/x": false, "/a#": false, "/a/x#/../y": false,
		"/a/\x00": false, "/a/\t": false, "/a/\x7f": false, "/a x": false, "/a/\"": false, "/a/{x}": false, "/a/|": false, "/a/^": false,
		"/a/ö": false, "/a/\xff": false,
		"/a%2fx": false, "/a%2Fx": false, "/a%5cx": false, "/a/%5C..": false, "/a/%2e%2e/x": false, "/a/%2e": false, "/a/.%2E": false, "/a/x%2e": false,
		"/a/%252e": false, "/a/%25": false, "/a/%3b": false, "/a/..%3B/x": false, "/a%3fx": false, "/a%23x": false,
		"/a/%00": false, "/a/%0d%0a": false, "/a/%1f": false, "/a/%7F": false, "/a/%c2%80": false, "/a/%C2%85": false,
		"/%61": false, "/a/%41": false, "/a/%2D": false, "/a/%7e": false, "/a/%40": false, "/a/%2a": false,
		"/a/%": false, "/a/%2": false, "/a/%zz": false, "/a/%u002f": false, "/a/% 41": false, "/a/x%": false,
		"/a/%c0%af": false, "/a/%C0%AE%C0%AE": false, "/a/%e0%80%af": false, "/a/%ff": false, "/a/%c3": false, "/a/%c3x": false, "/a/%c3%28": false,
		"/a/%ed%a0%80": false, "/a/%f4%90%80%80": false, "/a/%b6": false, "/a/%c3%b6%b6": false,
	} {
		if _, found := x.Match("GET", path); (found != routes.Unclear) != plain {
			t.Errorf("%q: %s", path, found)
		}
	}
}

// Property: one path of one reading is named by the routes whose match, as it is
// written, takes it; and the one that is found is the most specific of these.
func FuzzTheIndexFindsWhatTheTableSays(f *testing.F) {
	for _, path := range []string{"/", "/a", "/a/b/c", "/a/b/", "/a/" + oneUUID, "/a/" + oneUUID + "/b/" + oneUUID, "/a/old/x", "/ab", "/a/%20", "/a//b"} {
		f.Add("GET", path)
	}
	table, err := routes.Parse([]byte(many))
	if err != nil {
		f.Fatal(err)
	}
	x := table.Index()
	f.Fuzz(func(t *testing.T, method, path string) {
		got, found := x.Match(method, path)
		name := ""
		if got != nil {
			name = got.Name
		}
		path, _, _ = strings.Cut(path, "?")
		wantName, want := tryAll(table, method, path)
		if found == routes.Unclear {
			wantName, want = "", routes.Unclear
		}
		if name != wantName || found != want {
			t.Fatalf("%s %q: %q (%s), want %q (%s)", method, path, name, found, wantName, want)
		}
	})
}

// tryAll is what Envoy does: one route after the other, and the methods last.
func tryAll(table routes.Table, method, path string) (string, routes.Finding) {
	all := slices.Clone(table.Routes)
	slices.SortStableFunc(all, func(a, b routes.Route) int { return routes.Compare(a.Match, b.Match) })
	at := slices.IndexFunc(all, func(r routes.Route) bool { return takes(r.Match, path) })
	if at < 0 {
		return "", routes.Unknown
	}
	for _, r := range all[at:] {
		if r.Match == all[at].Match && (r.Answer != nil || slices.Contains(r.Methods, method)) {
			return r.Name, routes.Matched
		}
	}
	return "", routes.OtherMethod
}

func takes(m routes.Match, path string) bool {
	switch {
	case m.Path != "":
		return path == m.Path
	case m.Template != "":
		return regexp.MustCompile(`\A(?:` + m.Regexp() + `)\z`).MatchString(path)
	default:
		return path == m.Prefix || strings.HasPrefix(path, m.Prefix+"/")
	}
}

func TestLookingForARouteCostsNoMemory(t *testing.T) {
	x := index(t, many)
	for _, path := range []string{"/", "/a/b/c?d", "/a/" + oneUUID + "/b/" + oneUUID, "/a/x/%20/y", "/nowhere/at/all", "/a//b"} {
		if got := testing.AllocsPerRun(100, func() { x.Match("GET", path) }); got != 0 {
			t.Errorf("%s: %v allocations", path, got)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, name := range routes.Shipped() {
		table, err := routes.Load(name)
		if err != nil {
			b.Fatal(err)
		}
		x := table.Index()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Match("GET", "/api/v1/query/chats/"+oneUUID+"/messages")
			}
		})
	}
}
