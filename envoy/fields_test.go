package envoy_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atenex/gatehouse/envoy/routes"
)

// fieldsGate has a route for each thing that a table may say of a route or an
// upstream and that the shipped ones do not.
func fieldsGate(t *testing.T) (*gate, map[string]*upstream) {
	t.Helper()
	dir := t.TempDir()
	ups := map[string]*upstream{}
	for _, name := range []string{"drop", "only", "plain"} {
		ups[name] = startUpstream(t, name, t.Cleanup)
	}
	h2 := &upstream{name: "h2"}
	h2.server = httptest.NewUnstartedServer(http.HandlerFunc(h2.serve))
	h2.server.Config.Protocols = new(http.Protocols)
	h2.server.Config.Protocols.SetUnencryptedHTTP2(true)
	h2.server.Start()
	t.Cleanup(h2.server.Close)

	secure := &upstream{name: "secure"}
	secure.server = httptest.NewUnstartedServer(http.HandlerFunc(secure.serve))
	secure.server.EnableHTTP2 = true
	secure.server.StartTLS()
	t.Cleanup(secure.server.Close)
	ca := filepath.Join(dir, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.server.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(dir, "routes.yaml")
	text := fmt.Sprintf(`
upstreams:
  drop: { url: %q, headers: { drop: [cookie, x-secret] } }
  only: { url: %q, headers: { forward: [accept, x-wanted] } }
  plain: { url: %q }
  h2: { url: %q, http2: true }
  secure: { url: %q, tls: { ca: %q, server_name: example.com } }
  secure2: { url: %q, http2: true, tls: { ca: %q, server_name: example.com } }
  other-name: { url: %q, tls: { ca: %q, server_name: other.test } }
  other-ca: { url: %q, tls: { server_name: example.com } }
routes:
  - { name: drop, prefix: /drop, methods: [GET], mode: strict, upstream: drop }
  - { name: only, prefix: /only, methods: [GET, POST], mode: strict, upstream: only, websocket: true }
  - { name: only-plain, prefix: /only-plain, methods: [GET, POST], mode: strict, upstream: plain, websocket: true, headers: { forward: [accept, x-wanted] } }
  - { name: only-both, prefix: /only-both, methods: [GET], mode: strict, upstream: only, headers: { forward: [x-wanted, x-own] } }
  - { name: drop-both, prefix: /drop-both, methods: [GET], mode: none, upstream: drop, headers: { drop: [x-other, x-secret] } }
  - { name: h2, prefix: /h2, methods: [POST], mode: strict, upstream: h2 }
  - { name: secure, path: /secure, methods: [GET], mode: none, upstream: secure }
  - { name: secure2, path: /secure2, methods: [GET], mode: none, upstream: secure2 }
  - { name: other-name, path: /other-name, methods: [GET], mode: none, upstream: other-name }
  - { name: other-ca, path: /other-ca, methods: [GET], mode: none, upstream: other-ca }
  - { name: small, prefix: /small, methods: [POST, GET], mode: strict, upstream: plain, max_body: 64KiB }
  - { name: large, prefix: /large, methods: [POST], mode: strict, upstream: plain, max_body: 1MiB }
  - { name: slow, path: /slow, methods: [GET], mode: none, upstream: plain, rate_limit: 1/h burst 2 }
  - { name: slower, path: /slower, methods: [GET], mode: none, upstream: plain, rate_limit: 1/h }
`, ups["drop"].url(), ups["only"].url(), ups["plain"].url(), h2.url(), secure.url(), ca, secure.url(), ca, secure.url(), ca, secure.url())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return newGate(t, options{tableName: file}), ups
}

func TestWhatATableSaysOfRoutesAndUpstreams(t *testing.T) {
	t.Parallel()
	g, ups := fieldsGate(t)
	const allowed = "Authorization: Bearer allow"

	t.Run("dropped headers do not pass and others do", func(t *testing.T) {
		got := g.do(t, "GET", "/drop/x", allowed, "Cookie: a=b", "X-Secret: 1", "X-Other: 2").echo(t)
		if got.Header.Get("Cookie") != "" || got.Header.Get("X-Secret") != "" || got.Header.Get("X-Other") != "2" || got.Header.Get("X-User-Id") != userID {
			t.Errorf("the upstream got %v", got.Header)
		}
	})
	t.Run("a route drops what it says and what its upstream says", func(t *testing.T) {
		got := g.do(t, "GET", "/drop-both/x", "Cookie: a=b", "X-Secret: 1", "X-Other: 2", "X-Third: 3").echo(t)
		if got.Header.Get("Cookie") != "" || got.Header.Get("X-Secret") != "" || got.Header.Get("X-Other") != "" || got.Header.Get("X-Third") != "3" {
			t.Errorf("the upstream got %v", got.Header)
		}
	})
	t.Run("a header passes where its route and its upstream forward it", func(t *testing.T) {
		got := g.do(t, "GET", "/only-both/x", allowed, "Accept: text/x", "X-Wanted: 1", "X-Own: 1", "X-Company-Id: 1").echo(t)
		if got.Header.Get("X-Wanted") != "1" || got.Header.Get("Accept") != "" || got.Header.Get("X-Own") != "" || got.Header.Get("X-Company-Id") != companyID {
			t.Errorf("the upstream got %v", got.Header)
		}
	})
	t.Run("an answer is for the origin that its route does not forward", func(t *testing.T) {
		got := g.do(t, "GET", "/only-plain/x", allowed, "Origin: http://localhost:3000")
		if at := got.header.Get("Access-Control-Allow-Origin"); at != "http://localhost:3000" || got.echo(t).Header.Get("Origin") != "" {
			t.Errorf("allowed origin %q, %s", at, got.body)
		}
	})
	for _, prefix := range []string{"/only", "/only-plain"} {
		testForwarded(t, g, prefix)
	}
	t.Run("HTTP/2 with prior knowledge", func(t *testing.T) {
		if got := g.send(t, "POST", "/h2/x?a=b", strings.NewReader("body"), allowed).echo(t); got.Upstream != "h2" || got.Bytes != 4 || got.URI != "/h2/x?a=b" {
			t.Errorf("the upstream got %+v", got)
		}
	})
	t.Run("a certificate of the table's CA and name is believed", func(t *testing.T) {
		for _, path := range []string{"/secure", "/secure2"} {
			if a := g.do(t, "GET", path); a.status != http.StatusOK || a.echo(t).Upstream != "secure" {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
	})
	t.Run("one of another name or CA is not", func(t *testing.T) {
		for _, path := range []string{"/other-name", "/other-ca"} {
			if a := g.do(t, "GET", path); a.status != http.StatusServiceUnavailable || a.body != detail("Could not connect to upstream service.") {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
	})
	t.Run("a rate of the route's own is its own", func(t *testing.T) {
		var got []int
		for _, path := range []string{"/slow", "/slow", "/slow", "/slower", "/slower"} {
			got = append(got, g.do(t, "GET", path).status)
		}
		if want := []int{200, 200, 429, 200, 429}; !slices.Equal(got, want) {
			t.Errorf("statuses %v, want %v", got, want)
		}
	})
	t.Run("bodies within the limit pass and larger ones do not", func(t *testing.T) {
		testBodyLimit(t, g, allowed, "/small", 64<<10, ups["plain"])
		testBodyLimit(t, g, allowed, "/large", 1<<20, ups["plain"])
	})
}

func testBodyLimit(t *testing.T, g *gate, allowed, prefix string, limit int, up *upstream) {
	t.Helper()
	tooLarge := detail("Request body too large.")
	for _, c := range []struct {
		name      string
		body      int
		announced bool
		token     bool
		want      int
	}{
		{"at the limit, announced", limit, true, true, http.StatusOK},
		{"at the limit, chunked", limit, false, true, http.StatusOK},
		{"a byte more, announced", limit + 1, true, true, http.StatusRequestEntityTooLarge},
		{"a byte more, chunked", limit + 1, false, true, http.StatusRequestEntityTooLarge},
		{"some more, chunked", limit + 40_000, false, true, http.StatusRequestEntityTooLarge},
		{"much more, chunked", 10 * limit, false, true, http.StatusRequestEntityTooLarge},
		{"much more, chunked, of a stranger", 10 * limit, false, false, http.StatusUnauthorized},
		{"none at all", 0, true, true, http.StatusOK},
	} {
		t.Run(prefix+" "+c.name, func(t *testing.T) {
			var body io.Reader = bytes.NewReader(make([]byte, c.body))
			if !c.announced {
				body = struct{ io.Reader }{body}
			}
			headers := []string{"Origin: http://localhost:3000"}
			if c.token {
				headers = append(headers, allowed)
			}
			a := g.send(t, "POST", prefix+"/x", body, headers...)
			if a.status != c.want {
				t.Fatalf("status %d %s, want %d", a.status, a.body, c.want)
			}
			if c.want == http.StatusRequestEntityTooLarge && (a.body != tooLarge || a.header.Get("Access-Control-Allow-Origin") == "" || a.header.Get("X-Process-Time") == "") {
				t.Errorf("%s %v", a.body, a.header)
			}
			if c.want == http.StatusOK && a.echo(t).Bytes != int64(c.body) {
				t.Errorf("%d bytes arrived, want %d", a.echo(t).Bytes, c.body)
			}
		})
	}
	t.Run(prefix+" an announced body still streams", func(t *testing.T) {
		conn, err := net.DialTimeout("tcp", g.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST "+prefix+"/do/read HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 2\r\n"+allowed+"\r\n\r\na")
		select {
		case <-up.steps: // one byte arrived; the other was not sent yet
		case <-time.After(patience):
			t.Error("the first byte did not arrive before the last was sent")
		}
	})
}

// TestRetriesAreOfWhatTheServiceHasNotSeen has a service that takes connections
// and drops them, and one that is not there.
func TestRetriesAreOfWhatTheServiceHasNotSeen(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	rude := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		seen.Add(1)
		panic(http.ErrAbortHandler) // after the request was read
	}))
	t.Cleanup(rude.Close)
	gone := "http://" + deadAddress(t)

	g := newGate(t, options{table: func(table *routes.Table) {
		table.Upstreams["rude"] = routes.Upstream{URL: rude.URL, Retries: 2}
		table.Upstreams["gone"] = routes.Upstream{URL: gone, Retries: 2}
		for _, name := range []string{"rude", "gone"} {
			table.Routes = append(table.Routes, routes.Route{
				Name: name, Match: routes.Match{Prefix: "/" + name}, Methods: []string{"GET", "POST", "PUT"}, Mode: routes.None, Upstream: name,
			})
		}
	}})
	retried := func() int {
		t.Helper()
		res, err := http.Get(g.admin + "/stats?format=text&filter=" + "cluster.gone.upstream_rq_retry$")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		_, value, _ := strings.Cut(strings.TrimSpace(string(body)), ": ")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		return n
	}

	if a := g.do(t, "GET", "/rude/x"); a.status != http.StatusBadGateway || seen.Load() != 1 {
		t.Errorf("a request that was read: status %d, seen %d times, want 502 and once", a.status, seen.Load())
	}
	for _, c := range []struct {
		method string
		want   int // of retries, in all
	}{{"GET", 2}, {"POST", 2}, {"PUT", 4}} {
		a := g.send(t, c.method, "/gone/x", strings.NewReader(""))
		if a.status != http.StatusServiceUnavailable || a.body != detail("Could not connect to upstream service.") {
			t.Errorf("%s: %d %s", c.method, a.status, a.body)
		}
		if got := retried(); got != c.want {
			t.Errorf("after %s: %d retries, want %d", c.method, got, c.want)
		}
	}
}

// testForwarded asks an upstream or a route that forwards accept and x-wanted.
func testForwarded(t *testing.T, g *gate, prefix string) {
	t.Helper()
	const allowed = "Authorization: Bearer allow"
	t.Run(prefix+": only forwarded headers pass, and what the gate says", func(t *testing.T) {
		got := g.send(t, "POST", prefix+"/x", strings.NewReader("body"), allowed, "Cookie: a=b", "Accept: text/x", "Accep: 1", "Accept-Language: de",
			"X-Wanted: 1", "X-Wante: 1", "X-Wanted-Too: 1", "Content-Type: text/y", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Z: 1").echo(t)
		names := []string{}
		for name := range got.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		want := []string{
			"Accept", "Content-Length", "Content-Type", "Traceparent", "X-Company-Id", "X-Forwarded-For", "X-Forwarded-Host",
			"X-Forwarded-Proto", "X-Request-Id", "X-User-Email", "X-User-Id", "X-Wanted",
		}
		if !slices.Equal(names, want) || got.Bytes != 4 || got.Method != http.MethodPost || got.URI != prefix+"/x" {
			t.Errorf("the upstream got %v of %s %s (%d bytes), want %v", names, got.Method, got.URI, got.Bytes, want)
		}
	})
	t.Run(prefix+": a websocket keeps the headers that it needs", func(t *testing.T) {
		a := g.raw(t, "GET "+prefix+"/do/websocket HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+allowed+"\r\n\r\n")
		if a.status != http.StatusSwitchingProtocols {
			t.Errorf("status %d %s", a.status, a.body)
		}
	})
}
