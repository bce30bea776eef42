package envoy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atenex/gatehouse/envoy/routes"
)

// crossing has matches of every kind around the same paths, and both an open part
// of a guarded route and a guarded part of an open one.
const crossing = `
upstreams: { ingest: {}, query: {} }
routes:
  - { name: root, path: /, methods: [GET], mode: none, upstream: ingest }
  - { name: open, prefix: /open, methods: [GET, POST, OPTIONS], mode: none, upstream: ingest }
  - { name: guarded, prefix: /open/guarded, methods: [GET], mode: strict, roles: [admin], upstream: ingest }
  - { name: hook, path: /open/guarded/hook, methods: [POST], mode: none, upstream: ingest, opens: [guarded] }
  - { name: a, prefix: /a, methods: [GET, POST], mode: initial, upstream: query, websocket: true }
  - { name: a-b, prefix: /a/b, methods: [GET], mode: strict, upstream: query, max_body: 1KiB }
  - { name: a-b-write, prefix: /a/b, methods: [PUT, OPTIONS], mode: strict, upstream: query }
  - { name: exact, path: /a/b/c, methods: [POST], mode: strict, upstream: query }
  - { name: slash, path: /a/b/, methods: [DELETE], mode: strict, upstream: query }
  - { name: one, template: "/a/{uuid}", methods: [GET], mode: strict, upstream: query }
  - { name: two, template: "/a/{uuid}/b/{uuid}", methods: [GET], mode: strict, upstream: query }
  - { name: odd-one, template: "/a.b+(c)/{uuid}", methods: [GET], mode: strict, upstream: query }
  - { name: of-one, path: /a/0a1b2c3d-1111-4111-8111-00000000000f, methods: [POST], mode: strict, upstream: query }
  - { name: gone, prefix: /a/old, answer: { status: 410, detail: Gone } }
  - { name: odd, path: "/A.z_~!$&'()*+,=:@-9", methods: [GET], mode: strict, upstream: query }
`

// crossed is a gate on that table, which says in its answers which route it took
// and for which path.
var crossed struct {
	sync.Mutex
	gate  *gate
	index *routes.Index
}

func crossedGate(t *testing.T) (*gate, *routes.Index) {
	t.Helper()
	crossed.Lock()
	defer crossed.Unlock()
	if crossed.gate != nil {
		return crossed.gate, crossed.index
	}
	table, err := routes.Parse([]byte(crossing))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "gatehouse-envoy-test-") //nolint:usetesting // it outlives the test that happens to make it
	if err != nil {
		t.Fatal(err)
	}
	stop := func(stop func()) {
		shared.Lock()
		defer shared.Unlock()
		shared.stops = append(shared.stops, stop)
	}
	stop(func() { os.RemoveAll(dir) })
	crossed.gate = openGate(t, options{
		table:     func(to *routes.Table) { *to = table },
		bootstrap: func(b *bootstrapv3.Bootstrap) { telling(t, b) },
	}, dir, stop)
	crossed.index = table.Index()
	return crossed.gate, crossed.index
}

// telling puts a filter first that tells a client what nobody needs to know.
func telling(t *testing.T, b *bootstrapv3.Bootstrap) {
	t.Helper()
	config := b.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig()
	manager := new(managerv3.HttpConnectionManager)
	if err := config.UnmarshalTo(manager); err != nil {
		t.Fatal(err)
	}
	m := &mutationv3.HeaderMutation{Mutations: &mutationv3.Mutations{}}
	for header, value := range map[string]string{"x-test-route": "%ROUTE_NAME%", "x-test-path": "%REQ(:PATH)%"} {
		m.Mutations.ResponseMutations = append(m.Mutations.ResponseMutations, &rulesv3.HeaderMutation{
			Action: &rulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: header, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}},
		})
	}
	packed, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	manager.HttpFilters = append([]*managerv3.HttpFilter{{
		Name: "test.telling", ConfigType: &managerv3.HttpFilter_TypedConfig{TypedConfig: packed},
	}}, manager.GetHttpFilters()...)
	if err := config.MarshalFrom(manager); err != nil {
		t.Fatal(err)
	}
}

// taken asks the gate for the route that it takes. Requests that it refuses before
// it looks for one have none.
func (g *gate) taken(t *testing.T, method, target string) (route, path string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", g.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request(method+" "+target, "Content-Length: 0", "Authorization: Bearer allow")); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %q: %v", method, target, err)
	}
	res.Body.Close()
	return res.Header.Get("X-Test-Route"), res.Header.Get("X-Test-Path")
}

// sameRoute holds what the table says of a request against what Envoy does with it,
// and returns what the table says of it as it was sent.
func sameRoute(t *testing.T, method, target string) routes.Finding {
	t.Helper()
	g, index := crossedGate(t)
	taken, normal := g.taken(t, method, target)
	if path, _, query := strings.Cut(target, "?"); query && taken == "" && path != "" {
		// A query can be wrong too (a # in it), which says nothing of the path.
		target = path
		taken, normal = g.taken(t, method, target)
	}
	var found routes.Finding
	// As a mesh that normalises nothing would tell it, and as our Envoy would.
	for _, path := range []string{normal, target} {
		var r *routes.Route
		r, found = index.Match(method, path)
		if taken == "" && (found != routes.Matched || r.Answer != nil || path != target) {
			continue // it looked for no route, and nobody passes
		}
		want := false
		switch found {
		case routes.Unclear:
			continue // strict, whatever Envoy makes of it
		case routes.Unknown:
			want = taken == routes.AnswerNotFound
		case routes.OtherMethod:
			want = strings.HasSuffix(taken, "-other-methods")
		case routes.Matched:
			want = taken == r.Name
		}
		if !want {
			t.Errorf("%s %q: Envoy takes %q for %q, the table says of %q: %s %s", method, target, taken, normal, path, found, nameOf(r))
		}
	}
	return found
}

func nameOf(r *routes.Route) string {
	if r == nil {
		return ""
	}
	return r.Name
}

// corpus is paths that clients send, and whether a table is to know them without Envoy
// in front of it.
func corpus() map[string]bool {
	paths := map[string]bool{
		"/": true, "/x": true, "/open": true, "/open/": true, "/open/x": true, "/openx": true, "/Open": true, "/open?a=b": true, "/open/x?/../a": true,
		"/open/guarded": true, "/open/guarded/": true, "/open/guarded/x": true, "/open/guardedx": true, "/open/Guarded": true,
		"/open/guarded/hook": true, "/open/guarded/hook/": true, "/open/guarded/hook/x": true,
		"/a": true, "/a/": true, "/a/x": true, "/ab": true, "/a/b": true, "/a/b/": true, "/a/b/c": true, "/a/b/c/": true, "/a/b/c?d": true, "/a/bc": true,
		"/a/" + someUUID: true, "/a/" + strings.ToLower(someUUID): true, "/a/" + someUUID + "/": true, "/a/" + someUUID + "x": true,
		"/a/" + someUUID + "/b/" + someUUID: true, "/a/" + someUUID + "/b/": true, "/a/" + someUUID + "/b/" + someUUID + "/c": true,
		"/a.b+(c)/" + someUUID: true, "/aXb+(c)/" + someUUID: true, "/a/old": true, "/a/old/x": true, "/a/older": true,
		"/A.z_~!$&'()*+,=:@-9": true, "/a/...": true, "/a/.x": true, "/a/~": true, "/a/x%20y": true, "/a/%7Bid%7d": true,
		"/a/Gr%C3%B6%C3%9Fe": true, "/a/%22%3C%3E%5B%5D%5E%60%7C": true, "/open/%E2%82%AC": true,
		"/a?//": true, "/a?%2f": true, "/a?;x": true, "/a?\\": true, "/a?x?y": true, "/a?b#/../open": true,
	}
	// What makes two paths of one, or one of two, in and around every route.
	for _, sign := range []string{
		"//", "///", "/./", "/../", "/..;/", "/..;x/", "/.;/", ";", ";x", "/;/", "\\", "\\..\\", "/..\\", "%5c", "%5C..%5c", "%2f", "%2F", "/%2e%2e/", "/.%2e/", "/%2e/",
		"/..%2f", "/%2e%2e%2f", "%252f", "/%252e%252e/", "%3b", "/..%3B/", "%3f", "%23", "#", "#/../", "%00", "%0a", "%0d%0a", "%7f", "%09", "%c0%af", "/%c0%ae%c0%ae/", "%e0%80%af", "%ff", "%c3",
		"%61", "%41", "%2d", "%7e", "%", "%2", "%zz", "%u002f", "%c2%85", "\x7f", "\x01", "\t", "{", "|", "^", "\"", "<", "ö", "\xff", "\xc0\xaf",
	} {
		for _, path := range []string{"/open" + sign + "x", "/open" + sign + "guarded/x", "/open/guarded" + sign + "hook", "/x" + sign + "open", sign + "open", "/open/x" + sign, "/a/b" + sign + "c", "/open/guarded/.." + sign} {
			paths[path] = false
		}
	}
	for _, path := range []string{"/.", "/..", "/open/.", "/open/..", "/open/guarded/..", "/open/guarded/../..", "*", "open", "http://gate.test/open", "http://gate.test/open/../a", "http://gate.test//open", "//gate.test/open", "/op%65n", "/%6fpen/guarded", "/open/guarde%64", "/o%70en/guarded/hook"} {
		paths[path] = false
	}
	return paths
}

func TestATableFindsTheRouteThatEnvoyTakes(t *testing.T) {
	t.Parallel()
	for path, plain := range corpus() {
		methods := []string{"GET"}
		if plain {
			methods = everyMethod
		}
		for _, method := range methods {
			if found := sameRoute(t, method, path); plain != (found != routes.Unclear) {
				t.Errorf("%s %q: %s", method, path, found)
			}
		}
	}
}

// pieces are what paths around the routes of crossing are made of, and what they
// are hidden with.
var pieces = []string{
	"/", "/", "/", "open", "guarded", "hook", "a", "b", "c", "old", someUUID, "a.b+(c)", "x",
	".", "..", "%2e", "%2E.", ";", ";x", "%3b", "//", "\\", "%5c", "%2f", "%252f", "?", "#", "%23", "%3F",
	"%41", "%61", "%62", "%20", "%7B", "%c3%b6", "%c0%af", "%ff", "%00", "%", "\x7f", "\t", "ö", "\xff", "{", "*", ":", "@",
}

// Property: whatever path is sent, the table either makes nothing of it or finds the
// route that Envoy takes.
func FuzzATableFindsTheRouteThatEnvoyTakes(f *testing.F) {
	spell := func(words ...string) (spelt []byte) {
		for _, w := range words {
			spelt = append(spelt, byte(slices.Index(pieces, w)))
		}
		return spelt
	}
	f.Add(byte(0), spell("/", "open", "/", "guarded", "/", "hook"), "")
	f.Add(byte(2), spell("/", "a", "/", someUUID, "/", "b", "/", someUUID, "?", "%2f"), "")
	f.Add(byte(1), spell("/", "open", "/", "..", ";", "/", "a", "/", "%2e", "%2E.", "/", "b", "//", "c"), "&=")
	f.Fuzz(func(t *testing.T, method byte, spelt []byte, rest string) {
		var target strings.Builder
		for _, piece := range spelt {
			target.WriteString(pieces[int(piece)%len(pieces)])
		}
		target.WriteString(rest)
		// Another request line would be another request.
		if target.Len() == 0 || target.Len() > 2000 || strings.ContainsAny(rest, " \r\n\x00") {
			return
		}
		sameRoute(t, everyMethod[int(method)%len(everyMethod)], target.String())
	})
}
