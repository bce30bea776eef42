package envoy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atenex/gatehouse/envoy"
)

func TestAnUploadLargerThanEveryBufferPasses(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	const size = 30 << 20
	for _, c := range []struct{ name, path, token string }{
		{"to a guarded route", "/api/v1/ingest/x", "allow"},
		{"to an open route", "/api/v1/auth/x", "none"},
	} {
		for _, counted := range []bool{true, false} { // Content-Length, chunked
			body := io.LimitReader(zeros{}, size)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.addr+c.path, body)
			if err != nil {
				t.Fatal(err)
			}
			if counted {
				req.ContentLength = size
			}
			req.Header.Set("Authorization", "Bearer "+c.token)
			res, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if e := (answer{res.StatusCode, res.Header, string(got)}).echo(t); e.Bytes != size {
				t.Errorf("%s: %d bytes arrived, want %d", c.name, e.Bytes, size)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBytesOfABodyArriveAsTheyAreSent sends one byte and waits until the
// upstream has it before it sends the next.
func TestBytesOfABodyArriveAsTheyAreSent(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{})
	up := g.ups["ingest"]
	r, w := io.Pipe()
	done := make(chan answer, 1)
	go func() {
		done <- g.send(t, "POST", "/api/v1/ingest/do/read", r, "Authorization: Bearer allow")
	}()
	for _, b := range "abc" {
		if _, err := io.WriteString(w, string(b)); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-up.steps:
			if got != string(b) {
				t.Fatalf("the upstream read %q, want %q", got, string(b))
			}
		case <-time.After(patience):
			t.Fatalf("byte %q is kept back", string(b))
		}
	}
	w.Close()
	if got := <-done; got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestEventsArriveAsTheyAreSent lets the upstream send the next event only
// after the client has the last.
func TestEventsArriveAsTheyAreSent(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.addr+"/api/v1/query/do/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer allow")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		g.ups["query"].step <- struct{}{}
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q %v", i, line, err)
		}
		_, _ = lines.ReadString('\n')
	}
}

// A stream that drips does so for longer than any bound of these tests. The bounds
// are many times the pause between two drops, since a busy machine makes it longer.
const (
	drops    = 40
	dripping = 4 * time.Second
)

func TestTimeoutsCutSilenceAndNothingThatMoves(t *testing.T) {
	t.Parallel()
	const silence = 2500 * time.Millisecond
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.UpstreamTimeout = silence }})
	bearer := "Authorization: Bearer allow"

	t.Run("a stream that lasts longer but moves is whole", func(t *testing.T) {
		t.Parallel()
		got := g.do(t, "GET", "/api/v1/ingest/do/drip", bearer)
		if got.status != 200 || got.body != strings.Repeat(".", drops) {
			t.Errorf("%d %q", got.status, got.body)
		}
	})
	t.Run("an upload that lasts longer but moves arrives", func(t *testing.T) {
		t.Parallel()
		r, w := io.Pipe()
		go func() {
			defer w.Close()
			for range drops {
				_, _ = io.WriteString(w, ".")
				<-time.After(dripping / drops)
			}
		}()
		if e := g.send(t, "POST", "/api/v1/ingest/x", r, bearer).echo(t); e.Bytes != drops {
			t.Errorf("%d bytes arrived, want %d", e.Bytes, drops)
		}
	})
	t.Run("an answer that stops half way is cut", func(t *testing.T) {
		t.Parallel()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.addr+"/api/v1/ingest/do/stall", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer allow")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err == nil || string(body) != "some" {
			t.Errorf("%q %v, want the first bytes and then an error", body, err)
		}
	})
	t.Run("the login service has a clock of its own", func(t *testing.T) {
		t.Parallel()
		// Twice the upstream's time-out: an answer by then would be a 504.
		ctx, cancel := context.WithTimeout(t.Context(), 2*silence)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.addr+"/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Do", "hang")
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			t.Errorf("answered %d", res.StatusCode)
		}
	})
	t.Run("a silent WebSocket lives on", func(t *testing.T) {
		t.Parallel()
		c := dial(t, g, "/api/v1/ingest/do/websocket")
		// Silence that no message could announce the end of.
		<-time.After(silence + 500*time.Millisecond)
		talk(t, c, "still here")
	})
}

func TestASilentWebSocketEndsAfterTheStreamIdleTimeout(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.StreamIdleTimeout = time.Second }})
	c := dial(t, g, "/api/v1/ingest/do/websocket")
	talk(t, c, "hello")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("a silent WebSocket is still open: %v", err)
	}
}

// TestAStalledClientIsToldSo covers the clock of the stream itself, which runs
// where no upstream is concerned.
func TestAStalledClientIsToldSo(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.StreamIdleTimeout = 500 * time.Millisecond }})
	for _, c := range []struct {
		name, request string
		status        int
		body          string
	}{
		{"a body that stops", request("POST /api/v1/ingest/x", "Authorization: Bearer allow", "Content-Length: 10") + "half", 408, detail("Request timed out.")},
		{"an answer that does not begin", request("GET /api/v1/ingest/do/hang", "Authorization: Bearer allow"), 504, timedOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkReply(t, g.raw(t, c.request), c.status, c.body)
		})
	}
}

func dial(t *testing.T, g *gate, path string) *websocket.Conn {
	t.Helper()
	h := http.Header{"Authorization": {"Bearer allow"}, "X-User-Id": {"evil"}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+g.addr+path, &websocket.DialOptions{HTTPHeader: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	_, data, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var e echo
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	if v := e.Header.Values("X-User-Id"); len(v) != 1 || v[0] != userID || e.Header.Get("Authorization") != "" {
		t.Errorf("the WebSocket's upstream got %v", e.Header)
	}
	return c
}

func talk(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(ctx); err != nil || string(got) != text {
		t.Fatalf("%q came back as %q, %v", text, got, err)
	}
}

func TestAWebSocketIsGuardedLikeEveryRequest(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for _, path := range []string{"/api/v1/ingest/do/websocket", "/api/v1/query/do/websocket"} {
		talk(t, dial(t, g, path), "hello")
	}
	upgrade := []string{"Upgrade: WebSocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for _, c := range []struct {
		name    string
		line    string
		headers []string
		want    int
	}{
		{"no token", "GET /api/v1/ingest/do/websocket", append(upgrade, "Connection: Upgrade"), 401},
		{"no mark", "GET /api/v1/ingest/do/websocket", append(upgrade, "Connection: Upgrade", "Authorization: Bearer empty"), 503},
		{"a POST", "POST /api/v1/ingest/do/websocket", append(upgrade, "Connection: Upgrade", "Authorization: Bearer allow"), 403},
		{"an open route", "GET /api/v1/auth/do/websocket", append(upgrade, "Connection: Upgrade"), 403},
		{"a path that is none", "GET /nowhere", append(upgrade, "Connection: Upgrade"), 403},
		{"no Connection, so no upgrade", "GET /api/v1/ingest/x", append(upgrade, "Authorization: Bearer allow"), 200},
		{"two upgrades at once", "GET /api/v1/ingest/x", append(upgrade[1:], "Connection: Upgrade", "Upgrade: websocket, h2c", "Authorization: Bearer allow"), 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := g.raw(t, c.line+" HTTP/1.1\r\nHost: gate.test\r\n"+strings.Join(append(c.headers, "", ""), "\r\n"))
			if got.status != c.want {
				t.Errorf("%d %s, want %d", got.status, got.body, c.want)
			}
		})
	}
}

// TestARequestThatOnlyLooksLikeAnUpgradeKeepsTheShortClock holds the door that
// a route of its own for WebSockets might have opened.
func TestARequestThatOnlyLooksLikeAnUpgradeKeepsTheShortClock(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.UpstreamTimeout = 300 * time.Millisecond }})
	for _, line := range []string{"GET /api/v1/ingest/do/hang", "POST /api/v1/ingest/do/hang"} {
		got := g.raw(t, line+" HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer allow\r\nUpgrade: websocket\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		checkReply(t, got, 504, timedOut)
	}
}
