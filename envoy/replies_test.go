package envoy_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

const (
	timedOut       = `{"detail":"Upstream service timed out."}`
	notConnected   = `{"detail":"Could not connect to upstream service."}`
	notCommunicate = `{"detail":"Error communicating with upstream service."}`
)

// checkReply wants an answer of the gate itself.
func checkReply(t *testing.T, got answer, status int, body string) {
	t.Helper()
	if got.status != status || got.body != body {
		t.Errorf("got %d %s, want %d %s", got.status, got.body, status, body)
	}
	if ct := got.header.Values("Content-Type"); !slices.Equal(ct, []string{"application/json"}) {
		t.Errorf("content type %q", ct)
	}
}

func TestUpstreamFaultsBecomeTheAnswersOfTheContract(t *testing.T) {
	t.Parallel()
	refusing := deadAddress(t)
	silent := unanswered(t)
	g := newGate(t, options{
		settings: func(s *envoy.Settings) {
			s.QueryURL = "http://" + refusing
			s.UpstreamTimeout = time.Second
			s.ConnectTimeout = time.Second
			s.AuthURL = "http://no-such-host.invalid"
		},
		table: func(tb *routes.Table) {
			tb.Upstreams["silent"] = routes.Upstream{URL: "http://" + silent}
			tb.Routes = append(tb.Routes, routes.Route{Name: "silent", Match: routes.Match{Prefix: "/silent"}, Methods: []string{"GET"}, Upstream: "silent"})
		},
	})
	for _, c := range []struct {
		name, method, path string
		status             int
		body               string
	}{
		{"a refused connection", "GET", "/api/v1/query/x", 503, notConnected},
		{"a refused connection with a body", "POST", "/api/v1/query/x", 503, notConnected},
		{"a host that does not resolve", "GET", "/api/v1/auth/x", 503, notConnected},
		{"a connect that nobody answers", "GET", "/silent/x", 503, notConnected},
		{"no byte in time", "GET", "/api/v1/ingest/do/hang", 504, timedOut},
		{"no byte in time for a POST", "POST", "/api/v1/ingest/do/hang", 504, timedOut},
		{"a reset", "GET", "/api/v1/ingest/do/reset", 502, notCommunicate},
		{"a connection closed without an answer", "GET", "/api/v1/ingest/do/close", 502, notCommunicate},
		{"an answer that is no HTTP", "GET", "/api/v1/ingest/do/garbage", 502, notCommunicate},
		{"a header that is too large", "GET", "/api/v1/ingest/do/huge-header", 502, notCommunicate},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkReply(t, g.send(t, c.method, c.path, strings.NewReader("body"), "Authorization: Bearer allow"), c.status, c.body)
		})
	}
}

func TestLoginDownIsNoConnectionOnItsRoutes(t *testing.T) {
	t.Parallel()
	dead := deadAddress(t)
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.LoginURL = "http://" + dead }})
	for _, line := range []string{"GET /health", "GET /", "POST /api/v1/users/login", "POST /api/v1/users/me/ensure-company"} {
		checkReply(t, g.raw(t, request(line, "Authorization: Bearer allow", "Content-Length: 0")), 503, notConnected)
	}
}

func TestAnUpstreamsOwnErrorsPassUnchanged(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for _, code := range []int{400, 401, 403, 404, 405, 408, 413, 422, 426, 429, 431, 500, 501, 502, 503, 504} {
		got := g.do(t, "GET", fmt.Sprintf("/api/v1/ingest/do/%d", code), "Authorization: Bearer allow")
		if want := fmt.Sprintf("the upstream's own %d", code); got.status != code || got.body != want || got.header.Get("Content-Type") != "text/plain" {
			t.Errorf("%d: got %d %q %v", code, got.status, got.body, got.header)
		}
		if got.header.Get("Retry-After") != "" {
			t.Errorf("%d: a Retry-After that is not the upstream's", code)
		}
	}
}

func TestMoreRequestsThanConnectionsAreRefusedAsNoConnection(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.MaxConnections = 1 }})
	answers := make(chan string, 6)
	ask := func() {
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = fmt.Fprint(conn, request("GET /api/v1/ingest/do/hang", "Authorization: Bearer allow"))
		go func() {
			buf := make([]byte, 4096)
			n, _ := conn.Read(buf)
			answers <- string(buf[:n])
		}()
	}
	ask()
	select {
	case <-g.ups["ingest"].steps: // it has the one connection
	case <-time.After(patience):
		t.Fatal("the first request did not arrive")
	}
	for range 5 {
		ask()
	}
	for n := range 4 {
		select {
		case a := <-answers:
			if !strings.HasPrefix(a, "HTTP/1.1 503 ") || !strings.HasSuffix(a, notConnected) {
				t.Errorf("refused with %q", a)
			}
		case <-time.After(patience):
			t.Fatalf("%d of 5 were refused, want all but one", n)
		}
	}
	// That one waits for the connection.
	select {
	case a := <-answers:
		t.Errorf("all of 5 were answered, the last with %q", a)
	case <-time.After(500 * time.Millisecond):
	}
}

func TestRequestsThatAreNoneAreRefusedInJSON(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	bearer := "Authorization: Bearer allow"
	for _, c := range []struct {
		name, request string
		status        int
		detail        string
	}{
		{"an escaped slash", request("GET /api/v1/auth/..%2fingest/x"), 400, "Bad Request"},
		{"an escaped slash in upper case", request("GET /api/v1/auth/..%2Fingest/x"), 400, "Bad Request"},
		{"an escaped backslash", request("GET /api/v1/auth/..%5cingest/x"), 400, "Bad Request"},
		{"an escaped NUL", request("GET /api/v1/auth/%00"), 400, "Bad Request"},
		{"a fragment", request("GET /api/v1/auth/x#/../ingest"), 400, "Bad Request"},
		{"HTTP/1.0", "GET /health HTTP/1.0\r\n\r\n", 426, "Upgrade Required"},
		{"no Host", "GET /health HTTP/1.1\r\n\r\n", 400, "Bad Request"},
		{"CONNECT", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 404, "Not Found"},
		{"the whole server", request("OPTIONS *"), 404, "Not Found"},
		{"an upgrade that is not a WebSocket", request("GET /api/v1/ingest/x", bearer, "Connection: upgrade", "Upgrade: foo"), 403, "Forbidden"},
		{"CONNECT to a path of ours", "CONNECT /api/v1/ingest HTTP/1.1\r\nHost: gate.test\r\n\r\n", 400, "Bad Request"},
		{"a WebSocket to a route without", request("GET /health", "Connection: upgrade", "Upgrade: websocket"), 403, "Forbidden"},
		{"headers that are too large", request("GET /health", "X-Large: "+strings.Repeat("x", 70<<10)), 431, "Request Header Fields Too Large"},
		{"too many headers", request("GET /health", slices.Repeat([]string{"X-Many: x"}, 150)...), 431, "Request Header Fields Too Large"},
		{"two lengths", request("POST /api/v1/users/login", "Content-Length: 1", "Content-Length: 2"), 400, "Bad Request"},
		{"a length and chunks", request("POST /api/v1/users/login", "Content-Length: 1", "Transfer-Encoding: chunked"), 400, "Bad Request"},
		{"a space before the colon", request("GET /health", "X-Odd : x"), 400, "Bad Request"},
		{"a NUL in a header", request("GET /health", "X-Odd: a\x00b"), 400, "Bad Request"},
		{"a method that nobody knows", request("MADEUP /health"), 405, "Method Not Allowed"},
		{"no HTTP at all", "hello\r\n\r\n", 400, "Bad Request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkReply(t, g.raw(t, c.request), c.status, detail(c.detail))
		})
	}
}

func TestEverySpellingOfAPathMeetsTheSameGuard(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for _, c := range []struct {
		path string
		want int // without a token: 401 is the guard; to be refused is as good; 0: not to reach ingest
	}{
		{"/api/v1/users/login/../../ingest/x", 401},
		{"/api/v1/auth/../ingest/x", 401},
		{"/api/v1/auth/%2e%2e/ingest/x", 401},
		{"/api/v1/auth/%2E./ingest/x", 401},
		{"/api/v1/auth/..;/ingest/x", 401},
		{"/api/v1/auth/.;/../ingest/x", 0}, // guarded or below auth, by version
		{"/api/v1/auth/..;a=b/ingest/x", 401},
		{"/api/v1/auth/%2e%2e;/ingest/x", 401},
		{"/api/v1/auth/..%3b/ingest/x", 401},
		{"//api//v1///ingest/x", 401},
		{"/./api/v1/ingest/x", 401},
		{"/api/v1/ingest/x/../../ingest/./y", 401},
		{"/api/v1/%69ngest/x", 401},
		{`/api/v1/auth\..\ingest/x`, 401},
		{"http://elsewhere.example/api/v1/ingest/x", 401},
		{"/api/v1/ingest/../../../health", 200},
		{"/api/v1/ingest;/x", 404},
		{"/api/v1/auth/%252e%252e/ingest/x", 200}, // stays below auth for whoever decodes once
	} {
		t.Run(c.path, func(t *testing.T) {
			got := g.raw(t, request("GET "+c.path))
			if c.want != 0 && got.status != c.want && got.status != 400 {
				t.Fatalf("%d %s, want %d", got.status, got.body, c.want)
			}
			if got.status == 200 {
				if e := got.echo(t); e.Upstream == "ingest" || strings.Contains(e.URI, "..") {
					t.Errorf("reached %s %s", e.Upstream, e.URI)
				}
			}
		})
	}
}

func TestHTTP2IsHeldToTheSameRules(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	c := h2client(g)
	for _, tc := range []struct {
		path, token string
		want        int
	}{
		{"/api/v1/ingest/x", "allow", 200},
		{"/api/v1/ingest/x", "none", 401},
		{"/api/v1/ingest/x", "empty", 503},
		{"/nowhere", "allow", 404},
	} {
		got := c.get(t, tc.path, tc.token)
		if got.status != tc.want || got.header.Get("X-Process-Time") == "" {
			t.Errorf("%s %s: %d %s", tc.path, tc.token, got.status, got.body)
		}
		if got.status == 200 {
			if e := got.echo(t); e.Header.Get("X-User-Id") != userID {
				t.Errorf("identity upstream: %v", e.Header)
			}
		}
	}
}
