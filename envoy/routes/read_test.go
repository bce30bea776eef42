package routes_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/envoy/routes"
)

func TestATableIsReadStrictly(t *testing.T) {
	t.Parallel()
	// The smallest table that is right, of which each case spoils one thing.
	const good = `
upstreams:
  ingest: {}
  login: { authorization: true }
  other: { url: "http://other:80/base" }
routes:
  - { name: a, prefix: /a, methods: [GET], mode: strict, upstream: ingest }
  - { name: b, path: /b, methods: [POST], mode: none, upstream: login }
  - { name: o, path: /o, methods: [POST], mode: none, upstream: other }
`
	if _, err := routes.Parse([]byte(good)); err != nil {
		t.Fatalf("the good table: %v", err)
	}
	more := func(line string) string { return good + "  - " + line + "\n" }
	for _, c := range []struct {
		name, table string
		want        string // in the error
	}{
		{"an unknown key", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, mod: none }`), `mod`},
		{"an unknown key of an upstream", strings.Replace(good, "ingest: {}", "ingest: { authorisation: true }", 1), "authorisation"},
		{"an unknown key at the top", good + "defaults: {}\n", "defaults"},
		{"a key in another letter case", more(`{ name: c, path: /c, methods: [GET], mode: strict, Mode: none, upstream: ingest }`), "Mode"},
		{"a key given twice", more(`{ name: c, path: /c, methods: [GET], mode: strict, mode: none, upstream: ingest }`), "mode"},
		{"no mode", more(`{ name: c, path: /c, methods: [GET], upstream: ingest }`), `line 10: route "c": mode is missing`},
		{"a route without a name", more(`{ path: /c, methods: [GET], mode: strict, upstream: ingest }`), `line 10: route #4: the name must be`},
		{"the line of a key", good + "  - name: c\n    path: /c\n    methods: [GET]\n    mode: strict\n    upstream: ingest\n    colour: red\n", `line 15: route "c": unknown key "colour"`},
		{"the line of a value", good + "  - name: c\n    path: /c\n    methods:\n      - GET\n      - 1\n    mode: strict\n    upstream: ingest\n", `line 14: route "c": methods: want text`},
		{"a number where text belongs", more(`{ name: 1, path: /c, methods: [GET], mode: strict, upstream: ingest }`), `name: want text`},
		{"text where a truth belongs", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, websocket: "true" }`), `websocket: want true or false`},
		{"yes", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, websocket: yes }`), `websocket: want true or false`},
		{"a merge key", good + "  - <<: { name: c }\n    path: /c\n    methods: [GET]\n    mode: strict\n    upstream: ingest\n", `merge keys hide`},
		{"a second document", good + "---\n{}\n", "line 10: a second document"},
		{"routes that are a mapping", "routes: {a: {}}\n", "line 1: routes: want a list"},
		{"a route that is text", "routes: [a]\n", "line 1: route #1: want a mapping, not a"},
		{"an upstream given twice", strings.Replace(good, "  ingest: {}", "  ingest: {}\n  ingest: {}", 1), `line 4: upstream "ingest": the name is used twice, first in line 3`},
		{"an upstream that nobody uses", strings.Replace(good, "  ingest: {}", "  ingest: {}\n  idle: { url: http://idle }", 1), `line 4: upstream "idle": no route leads to it`},
		{"a certificate that is not verified", strings.Replace(good, "http://other:80/base\"", "https://other\", tls: { insecure: true }", 1), "always verified"},
		{"TLS without https", strings.Replace(good, "base\"", "base\", tls: { server_name: x }", 1), "tls is for an https url"},
		{"a relative CA", strings.Replace(good, "http://other:80/base\"", "https://other\", tls: { ca: ca.pem }", 1), "want an absolute path"},
		{"a server name that is none", strings.Replace(good, "http://other:80/base\"", "https://other\", tls: { server_name: \"*.x\" }", 1), "want a host name"},
		{"too many retries", strings.Replace(good, "base\"", "base\", retries: 4", 1), "want 0 to 3"},
		{"a number that is none", strings.Replace(good, "base\"", "base\", retries: -1", 1), "not a whole number"},
		{"both lists of headers", strings.Replace(good, "base\"", "base\", headers: { forward: [a], drop: [b] }", 1), "not both"},
		{"a header of the gate's", strings.Replace(good, "base\"", "base\", headers: { drop: [x-user-id] }", 1), "the gate sets it itself"},
		{"a header that never passes", strings.Replace(good, "base\"", "base\", headers: { forward: [x-original-url] }", 1), "takes it away from every request"},
		{"authorization among the headers", strings.Replace(good, "base\"", "base\", headers: { forward: [authorization] }", 1), "a key of its own"},
		{"a header in upper case", strings.Replace(good, "base\"", "base\", headers: { drop: [Cookie] }", 1), "lower-case"},
		{"gRPC-Web over HTTP/1.1", strings.Replace(good, "base\"", "base\", grpc_web: true", 1), "needs http2: true"},
		{"a websocket over HTTP/2", strings.Replace(good, "base\"", "base\", http2: true", 1) + "  - { name: c, path: /c, methods: [GET], mode: none, upstream: other, websocket: true }\n", "needs HTTP/1.1"},
		{"a rate that is none", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, rate_limit: fast }`), "want true, or a rate"},
		{"a burst below the rate", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, rate_limit: 10/s burst 5 }`), "a burst not below the rate"},
		{"a size that is none", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, max_body: 10MB }`), "max_body: want a number of bytes"},
		{"a size past the largest", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, max_body: 2GiB }`), "max_body: want a number of bytes"},
		{"a size of nothing", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, max_body: 0 }`), "max_body: want a number of bytes"},
		{"a duration in seconds", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, timeouts: { idle: 15 } }`), "timeouts.idle: want a duration"},
		{"a connect time-out of a route", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, timeouts: { connect: 1s } }`), `unknown key "connect"`},
		{"a name of the gate's own answers", more(`{ name: not-found, path: /c, methods: [GET], mode: strict, upstream: ingest }`), "uses itself"},
		{"a UUID in a prefix", more(`{ name: c, prefix: "/c/{uuid}", methods: [GET], mode: strict, upstream: ingest }`), "belongs in a template"},
		{"an empty list of roles", more(`{ name: c, path: /c, methods: [GET], mode: strict, roles: [], upstream: ingest }`), "roles are empty"},
		{"a route that opens nothing", more(`{ name: c, path: /c, methods: [GET], mode: none, upstream: ingest, opens: [a] }`), `opens no part of a route "a"`},
		{"a guarded route that opens", more(`{ name: c, path: /a/b, methods: [GET], mode: initial, upstream: ingest, opens: [a] }`), "only a route of mode none"},
		{"a misspelt mode", more(`{ name: c, path: /c, methods: [GET], mode: strickt, upstream: ingest }`), "strickt"},
		{"a mode in another letter case", more(`{ name: c, path: /c, methods: [GET], mode: None, upstream: ingest }`), "None"},
		{"an answer with a mode", more(`{ name: c, path: /c, mode: none, answer: { status: 404, detail: x } }`), "has no mode"},
		{"an answer with methods", more(`{ name: c, path: /c, methods: [GET], answer: { status: 404, detail: x } }`), "takes nothing else"},
		{"an answer that is a success", more(`{ name: c, path: /c, answer: { status: 200, detail: x } }`), "want 400 to 599"},
		{"no upstream", more(`{ name: c, path: /c, methods: [GET], mode: strict }`), `line 10: route "c": upstream "" is not in the table`},
		{"an unknown upstream", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: nowhere }`), "not in the table"},
		{"an upstream without a URL", strings.Replace(good, `{ url: "http://other:80/base" }`, "{}", 1), "url is missing"},
		{"a URL that is a setting", strings.Replace(good, "ingest: {}", `ingest: { url: "http://x" }`, 1), "is a setting"},
		{"a URL with a password", strings.Replace(good, "http://other:80/base", "http://u:test-secret@other", 1), "no user or password"},
		{"a URL that is none", strings.Replace(good, "http://other:80/base", "ftp://other", 1), "want http"},
		{"an upstream with a name of ours", strings.Replace(good, "other:", "authz:", 1), "neither authz nor nowhere"},
		{"no methods", more(`{ name: c, path: /c, mode: strict, upstream: ingest }`), "methods are missing"},
		{"a method in lower case", more(`{ name: c, path: /c, methods: [get], mode: strict, upstream: ingest }`), `method "get"`},
		{"TRACE", more(`{ name: c, path: /c, methods: [TRACE], mode: strict, upstream: ingest }`), "TRACE"},
		{"CONNECT", more(`{ name: c, path: /c, methods: [CONNECT], mode: strict, upstream: ingest }`), "CONNECT"},
		{"a method twice", more(`{ name: c, path: /c, methods: [GET, GET], mode: strict, upstream: ingest }`), "twice"},
		{"a name twice", more(`{ name: a, path: /c, methods: [GET], mode: strict, upstream: ingest }`), "name is used twice"},
		{"a name that is no label", more(`{ name: "C c", path: /c, methods: [GET], mode: strict, upstream: ingest }`), "lower-case"},
		{"no match", more(`{ name: c, methods: [GET], mode: strict, upstream: ingest }`), "exactly one of"},
		{"two matches", more(`{ name: c, path: /c, prefix: /c, methods: [GET], mode: strict, upstream: ingest }`), "exactly one of"},
		{"a path that is not normal", more(`{ name: c, path: /c/../d, methods: [GET], mode: strict, upstream: ingest }`), "normal form"},
		{"a path with empty segments", more(`{ name: c, path: /c//d, methods: [GET], mode: strict, upstream: ingest }`), "normal form"},
		{"an escaped path", more(`{ name: c, path: /c%2fd, methods: [GET], mode: strict, upstream: ingest }`), "unescaped"},
		{"a path with a query", more(`{ name: c, path: "/c?d", methods: [GET], mode: strict, upstream: ingest }`), "unescaped"},
		{"a relative path", more(`{ name: c, path: c, methods: [GET], mode: strict, upstream: ingest }`), "unescaped"},
		{"a prefix that takes everything", more(`{ name: c, prefix: /, methods: [GET], mode: none, upstream: login }`), "must not end in a slash"},
		{"a prefix with a slash at the end", more(`{ name: c, prefix: /c/, methods: [GET], mode: strict, upstream: ingest }`), "must not end in a slash"},
		{"a template without a UUID", more(`{ name: c, template: /c/d, methods: [GET], mode: strict, upstream: ingest }`), "no {uuid}"},
		{"another kind of template", more(`{ name: c, template: "/c/{uuid}/{name}", methods: [GET], mode: strict, upstream: ingest }`), "unescaped"},
		{"half a segment of template", more(`{ name: c, template: "/c/x{uuid}", methods: [GET], mode: strict, upstream: ingest }`), "no {uuid}"},
		{"roles that nobody checks", more(`{ name: c, path: /c, methods: [GET], mode: none, roles: [x], upstream: login }`), "never checked"},
		{"a role with a comma", more(`{ name: c, path: /c, methods: [GET], mode: strict, roles: ["a,b"], upstream: login }`), `role "a,b"`},
		{"a role that YAML takes for a word of its own", more(`{ name: c, path: /c, methods: [GET], mode: strict, roles: [true], upstream: login }`), "roles"},
		{"a websocket without GET", more(`{ name: c, path: /c, methods: [POST], mode: strict, websocket: true, upstream: ingest }`), "needs GET"},
		{"a time-out without a unit", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, timeouts: { idle: "5" } }`), "duration"},
		{"a time-out that is negative", more(`{ name: c, path: /c, methods: [GET], mode: strict, upstream: ingest, timeouts: { total: -5s } }`), "duration"},
		{"the same path twice", more(`{ name: c, path: /b, methods: [POST], mode: none, upstream: login }`), `line 10: routes "b" and "c": both take /b, the first in line 8`},
		{"the same prefix twice", more(`{ name: c, prefix: /a, methods: [POST, GET], mode: strict, upstream: ingest }`), `both take /a`},
		{"an answer on a path that is taken", more(`{ name: c, path: /b, answer: { status: 404, detail: x } }`), `both take /b`},
		{"an open path inside a guarded prefix", more(`{ name: c, path: /a/b, methods: [POST], mode: none, upstream: login }`), `line 10: route "c": mode none opens a part of route "a" (strict, line 7)`},
		{"an open prefix inside a guarded prefix", more(`{ name: c, prefix: /a/b, methods: [GET], mode: none, upstream: login }`), `opens a part of route "a"`},
		{"an open template inside a guarded prefix", more(`{ name: c, template: "/a/{uuid}", methods: [GET], mode: none, upstream: login }`), `opens a part of route "a"`},
		{"no YAML", "\t{", "reading YAML"},
		{"nothing", "", "no routes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := routes.Parse([]byte(c.table))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "test-secret") {
				t.Errorf("the error repeats a password: %v", err)
			}
		})
	}
	t.Run("all faults at once", func(t *testing.T) {
		_, err := routes.Parse([]byte(more(`{ name: c, path: /b, methods: [get, put], upstream: x }`)))
		for _, want := range []string{"mode is missing", `"get"`, `"put"`, `upstream "x"`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q in it", err, want)
			}
		}
	})
}

func TestTwoRoutesMayShareAPathWithDifferentMethods(t *testing.T) {
	t.Parallel()
	_, err := routes.Parse([]byte(`
upstreams: { ingest: {}, login: {} }
routes:
  - { name: read, path: /a, methods: [GET], mode: initial, upstream: ingest }
  - { name: write, path: /a, methods: [POST], mode: strict, upstream: ingest }
  - { name: below, prefix: /a, methods: [GET], mode: strict, upstream: ingest }
  - { name: one, template: "/a/{uuid}", methods: [GET], mode: strict, upstream: ingest }
`))
	if err != nil {
		t.Error(err)
	}
}

func TestWhoOpensAPartOfAGuardedRouteSaysSo(t *testing.T) {
	t.Parallel()
	table, err := routes.Parse([]byte(`
upstreams: { ingest: {} }
routes:
  - { name: ingest, prefix: /a, methods: [GET], mode: strict, upstream: ingest }
  - { name: hook, path: /a/hook, methods: [POST], mode: none, upstream: ingest, opens: [ingest] }
`))
	if err != nil || table.Routes[1].Mode != routes.None {
		t.Errorf("%v", err)
	}
}

func TestFaultsOfAFileBeginWithItsNameAndLine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(file, []byte("upstreams: {ingest: {}}\nroutes:\n  - {name: a, path: /a, methods: [GET], upstream: ingest}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := routes.Load(file)
	if want := file + `:3: route "a": mode is missing: want strict, initial or none`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestTablesAreFoundByNameOrFile(t *testing.T) {
	t.Parallel()
	for _, name := range routes.Shipped() {
		if _, err := routes.Load(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(file, []byte(`{upstreams: {ingest: {}}, routes: [{name: a, path: /a, methods: [GET], mode: strict, upstream: ingest}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := routes.Load(file)
	if err != nil || len(own.Routes) != 1 || own.Routes[0].Mode != routes.Strict {
		t.Errorf("%+v %v", own, err)
	}
	if _, err := routes.Load(os.DevNull); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device: %v", err)
	}
	if _, err := routes.Load("no-such"); err == nil || !strings.Contains(err.Error(), "want prefix, explicit or an existing file") {
		t.Errorf("%v", err)
	}
}
