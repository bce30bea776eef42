package e2e

import (
	"bufio"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

var (
	processTime = regexp.MustCompile(`^\d+(\.\d+)?ms$`)
	uuidForm    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// everyAnswer asks for one answer of each kind on the variant's gate.
func everyAnswer(t *testing.T, s *stack, extra http.Header) map[string]answer {
	t.Helper()
	merged := func(h http.Header) http.Header {
		out := extra.Clone()
		if out == nil {
			out = http.Header{}
		}
		for name, values := range h {
			out[name] = values
		}
		return out
	}
	good := merged(bearer(token(t, claimsOf(s.newMember()))))
	const chats = "/api/v1/query/chats"
	out := map[string]answer{
		"200 of an upstream":     s.get(chats, good),
		"200 of login":           s.get("/health", merged(nil)),
		"401 of authz":           s.get(chats, merged(nil)),
		"401 of authz, token":    s.get(chats, merged(bearer("x"))),
		"403 of authz":           s.get(chats, merged(bearer(token(t, claimsOf(s.newUser("")))))),
		"404 of the gate":        s.get("/nowhere", good),
		"405 of the gate":        s.do("PUT", chats, good, ""),
		"418 of an upstream":     s.get(chats+"?do=teapot", good),
		"500 of an upstream":     s.get(chats+"?do=fault", good),
		"502 of the gate":        s.get(chats+"?do=reset", good),
		"504 of the gate":        s.get(chats+"?do=silence", good),
		"401 of login":           s.postJSON("/api/v1/users/login", merged(nil), credentials("nobody@example.com", "test-password-of-nobody")),
		"422 of login":           s.postJSON("/api/v1/users/login", merged(nil), `{}`),
		"415 of login":           s.do("POST", "/api/v1/users/login", merged(http.Header{"Content-Type": {"text/plain"}}), `{}`),
		"OPTIONS without a word": s.do("OPTIONS", chats, merged(nil), ""),
	}
	for name, a := range out {
		if a.err != nil {
			t.Fatalf("%s: %v", name, a.err)
		}
		if want, _, _ := strings.Cut(name, " "); want != "OPTIONS" && marshal(t, a.status) != want {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	return out
}

func TestEveryAnswerCarriesItsIdAndItsTime(t *testing.T) {
	s := sharedVariant(t)
	const id = "request-of-a-client"
	for name, a := range everyAnswer(t, s, http.Header{"X-Request-Id": {id}}) {
		if got := a.header.Values("X-Process-Time"); len(got) != 1 || !processTime.MatchString(got[0]) {
			t.Errorf("%s: X-Process-Time = %q", name, got)
		}
		if got := a.header.Values("X-Request-Id"); !slices.Equal(got, []string{id}) {
			t.Errorf("%s: X-Request-ID = %q, want %q", name, got, id)
		}
		for header := range a.header {
			if strings.HasPrefix(header, "X-Envoy") {
				t.Errorf("%s: the client got %s", name, header)
			}
		}
	}
}

func TestRequestIDs(t *testing.T) {
	s := shared(t)
	good := bearer(token(t, claimsOf(s.newMember())))
	long := strings.Repeat("0123456789", 12)
	for _, test := range []struct {
		name string
		sent []string
		want string // empty: a new UUID
	}{
		{"none", nil, ""},
		{"empty", []string{""}, ""},
		{"the client's", []string{"abc-123"}, "abc-123"},
		{"a UUID, untouched", []string{"0f8fad5b-d9cb-469f-a165-70867728950e"}, "0f8fad5b-d9cb-469f-a165-70867728950e"},
		{"64 characters", []string{long[:64]}, long[:64]},
		{"cut at 64", []string{long}, long[:64]},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			for path, h := range map[string]http.Header{strictRoute: good.Clone(), "/nowhere": {}, "/health": {}, "/api/v1/query/anonymous": {}} {
				s.query.forget()
				if test.sent != nil {
					h["X-Request-Id"] = test.sent
				}
				got := s.get(path, h).header.Values("X-Request-Id")
				if len(got) != 1 || (test.want != "" && got[0] != test.want) || (test.want == "" && !uuidForm.MatchString(got[0])) {
					t.Fatalf("%s: the client got %q, want %q", path, got, test.want)
				}
				if path == strictRoute {
					if at := s.query.only(t).Header.Values("X-Request-Id"); !slices.Equal(at, got) {
						t.Errorf("the upstream got %q, the client %q", at, got)
					}
				}
			}
		})
	}
	a, b := s.get(strictRoute, good), s.get(strictRoute, good)
	if a.header.Get("X-Request-Id") == b.header.Get("X-Request-Id") {
		t.Error("two requests got the same id")
	}
}

func TestForwardedHeadersNameTheClient(t *testing.T) {
	s := shared(t)
	h := bearer(token(t, claimsOf(s.newMember())))
	h["X-Forwarded-For"] = []string{"203.0.113.9"}
	h["X-Forwarded-Host"] = []string{"evil.example"}
	h["X-Forwarded-Proto"] = []string{"https"}
	for _, name := range []string{"Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Proxy-Authorization"} {
		h[name] = []string{"x"}
	}
	h["Connection"] = []string{"X-Hop"}
	h["X-Hop"] = []string{"by hop"}
	s.get(strictRoute, h).expect(t, accepted)
	got := s.query.only(t).Header
	if f := got.Values("X-Forwarded-For"); len(f) != 1 || strings.ReplaceAll(f[0], " ", "") != "203.0.113.9,127.0.0.1" {
		t.Errorf("X-Forwarded-For = %q, want the client's address appended", f)
	}
	if f := got.Values("X-Forwarded-Host"); !slices.Equal(f, []string{s.address}) {
		t.Errorf("X-Forwarded-Host = %q, want %q", f, s.address)
	}
	if f := got.Values("X-Forwarded-Proto"); !slices.Equal(f, []string{"http"}) {
		t.Errorf("X-Forwarded-Proto = %q, want http", f)
	}
	for _, name := range []string{"Keep-Alive", "Proxy-Connection", "Trailer", "Proxy-Authorization", "X-Hop"} {
		if v := got.Values(name); len(v) != 0 {
			t.Errorf("%s = %q arrived, want none", name, v)
		}
	}
}

func TestAClientThatSaysNothingIsNamedAlone(t *testing.T) {
	s := shared(t)
	s.get(strictRoute, bearer(token(t, claimsOf(s.newMember())))).expect(t, accepted)
	if f := s.query.only(t).Header.Values("X-Forwarded-For"); !slices.Equal(f, []string{"127.0.0.1"}) {
		t.Errorf("X-Forwarded-For = %q, want the client's address", f)
	}
}

func TestUpstreamErrors(t *testing.T) {
	s := sharedVariant(t)
	h := bearer(token(t, claimsOf(s.newMember())))
	const chats = "/api/v1/query/chats?do="
	watch := stopwatch()
	s.get(chats+"silence", h).want(t, http.StatusGatewayTimeout, "Upstream service timed out.")
	if overdue(watch, 4*time.Second) {
		t.Errorf("a silent upstream was given %v, want HTTP_CLIENT_TIMEOUT (1 s)", watch.Passed())
	}
	s.get(chats+"reset", h).want(t, http.StatusBadGateway, "Error communicating with upstream service.")

	a := s.get(chats+"fault", h)
	if a.status != http.StatusInternalServerError || a.body != `{"title":"the upstream's own words"}` || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s %s, want the upstream's own answer", a.status, a.header.Get("Content-Type"), a.body)
	}
	a = s.get(chats+"teapot", h)
	if a.status != http.StatusTeapot || a.body != "short and stout" {
		t.Errorf("got %d %s, want the upstream's own answer", a.status, a.body)
	}
}

func TestEventsArriveAsTheyAreSent(t *testing.T) {
	s := shared(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.gateway+"/api/v1/query/events?do=stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = bearer(token(t, claimsOf(s.newMember())))
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	lines := bufio.NewReader(a.Body)
	// The second is not sent before the first was read.
	if line, err := lines.ReadString('\n'); err != nil || line != "data: first\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	s.query.hold <- struct{}{}
	rest, err := io.ReadAll(lines)
	if err != nil || string(rest) != "\ndata: second\n\n" {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestWebSockets(t *testing.T) {
	s := shared(t)
	const path = "/api/v1/query/socket?do=socket"
	dial := func(h http.Header) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), s.gateway+path, &websocket.DialOptions{HTTPHeader: h})
	}
	_, r, err := dial(nil)
	if err == nil || r == nil || r.StatusCode != http.StatusUnauthorized {
		t.Fatalf("without a token: %v, want 401", err)
	}
	s.query.none(t)
	u := s.newMember()
	h := bearer(token(t, claimsOf(u)))
	h["X-User-Id"] = []string{"forged"}
	c, _, err := dial(h)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	for _, text := range []string{"one", "two", strings.Repeat("x", 20_000)} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(t.Context())
		if err != nil || string(got) != text {
			t.Fatalf("got %d bytes, %v; want the %d that were sent", len(got), err, len(text))
		}
	}
	if got := s.query.only(t).Header.Values("X-User-Id"); !slices.Equal(got, []string{u.id}) {
		t.Errorf("the upstream got X-User-ID %q, want %q", got, u.id)
	}
}

// zeros is an upload of any length that nobody holds in memory.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestUploadsStream(t *testing.T) {
	s := shared(t)
	const size = 20 << 20
	for name, length := range map[string]int64{"with a length": size, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			s.ingest.forget()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.gateway+"/api/v1/ingest/upload", io.LimitReader(zeros{}, size))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = length
			r.Header = bearer(token(t, claimsOf(s.newMember())))
			a, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = a.Body.Close()
			if a.StatusCode != http.StatusOK {
				t.Fatal(a.Status)
			}
			if got := s.ingest.only(t).Body; got != size {
				t.Errorf("%d bytes arrived, want %d", got, size)
			}
		})
	}
}

func TestLoginIsRateLimitedAtTheEdge(t *testing.T) {
	t.Parallel()
	s := startStack(t, map[string]string{"GATEWAY_EDGE_LOGIN_RATE_LIMIT": "1/m burst 2"})
	h := http.Header{"Origin": {"http://localhost:3000"}}
	var last answer
	for i := range 3 {
		last = s.postJSON("/api/v1/users/login", h, "{}")
		if i < 2 {
			if err := last.is(http.StatusUnprocessableEntity); err != nil {
				t.Fatalf("request %d: %v", i+1, err)
			}
		}
	}
	last.want(t, http.StatusTooManyRequests, "Too many requests.")
	if got := last.header.Get("Retry-After"); got != "60" {
		t.Errorf("Retry-After = %q, want 60", got)
	}
	if got := last.header.Get("Access-Control-Allow-Origin"); got != "http://localhost:3000" {
		t.Errorf("Access-Control-Allow-Origin = %q, want the origin", got)
	}
	if got := last.header.Get("X-Process-Time"); !processTime.MatchString(got) {
		t.Errorf("X-Process-Time = %q", got)
	}
	// A client cannot be another one by saying so.
	h["X-Forwarded-For"] = []string{"203.0.113.77"}
	s.postJSON("/api/v1/users/login", h, "{}").want(t, http.StatusTooManyRequests, "Too many requests.")
	// Nothing else is limited.
	if err := s.get("/health", nil).is(http.StatusOK); err != nil {
		t.Error(err)
	}
}
