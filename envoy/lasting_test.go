package envoy_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/internal/starved"
)

const (
	brief   = 1500 * time.Millisecond // what authz gives to who is "brief"
	longest = 2 * time.Second         // the bound of the configuration
)

// Whatever was let in ends when authz said that it must, or after the bound of
// the configuration, however much moves on it.
func TestWhatWasLetInEndsInTime(t *testing.T) {
	t.Parallel()
	said := sharedGate(t)
	bound := newGate(t, options{settings: func(s *envoy.Settings) { s.StreamMax = longest }})
	for _, c := range []struct {
		name  string
		gate  *gate
		token string
		after time.Duration
	}{
		{"as authz said", said, "brief", brief},
		{"by the bound, where authz said nothing", bound, "allow", longest},
		{"as authz said, where that is sooner", bound, "brief", brief},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := ending{c.gate, c.token, c.after}
			t.Run("a WebSocket on which messages are exchanged", e.socket)
			t.Run("a stream that has begun is broken off", func(t *testing.T) { e.stream(t, http1()) })
			t.Run("a stream over HTTP/2 is reset, and its connection lives on", func(t *testing.T) { e.stream(t, prior()) })
			t.Run("an upload is answered, while it is sent", e.upload)
			t.Run("an answer that has not begun is a 504", e.unanswered)
		})
	}
	t.Run("a client cannot say so itself", func(t *testing.T) {
		const header = "X-Envoy-Upstream-Stream-Duration-Ms"
		got := said.do(t, "GET", "/api/v1/ingest/do/drip", "Authorization: Bearer allow", header+": 300")
		if got.status != 200 || got.body != strings.Repeat(".", drops) {
			t.Errorf("%d %q, want all of the stream", got.status, got.body)
		}
	})
	t.Run("the upstream does not hear of it", func(t *testing.T) {
		e := said.do(t, "GET", "/api/v1/ingest/x", "Authorization: Bearer brief").echo(t)
		for name := range e.Header {
			if strings.Contains(strings.ToLower(name), "duration") {
				t.Errorf("the upstream got %s", name)
			}
		}
	})
	t.Run("an open route goes on", func(t *testing.T) {
		got := bound.do(t, "GET", "/api/v1/auth/do/drip")
		if got.status != 200 || got.body != strings.Repeat(".", drops) {
			t.Errorf("%d %q, want all of the stream", got.status, got.body)
		}
	})
}

// ending is one gate, who asks, and how long they have.
type ending struct {
	*gate
	token string
	after time.Duration
}

func http1() http.RoundTripper { return &http.Transport{DisableKeepAlives: true} }

func prior() http.RoundTripper {
	t := &http.Transport{Protocols: &http.Protocols{}}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// inTime judges when something ended that began at start. What is late is a
// machine that is busy, up to a point; what is early is a fault, but for the
// coarseness of timers.
func (e ending) inTime(t *testing.T, start starved.Watch) {
	t.Helper()
	if took := start.Passed(); took < e.after-20*time.Millisecond || start.Took() > e.after+4*time.Second {
		t.Errorf("it ended after %v, want %v", took, e.after)
	}
}

func (e ending) ask(t *testing.T, with http.RoundTripper, method, path string, body io.Reader) (*http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, "http://"+e.addr+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+e.token)
	return with.RoundTrip(r)
}

func (e ending) socket(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := starved.Begin(t)
	c, _, err := websocket.Dial(ctx, "ws://"+e.addr+"/api/v1/ingest/do/websocket", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + e.token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	for n := 0; ; n++ {
		_, _, err := c.Read(ctx) // the first is the upstream's greeting
		if err == nil {
			err = c.Write(ctx, websocket.MessageText, []byte("still here"))
		}
		if err != nil {
			if ctx.Err() != nil || n < 3 {
				t.Fatalf("after %d messages: %v", n, err)
			}
			if websocket.CloseStatus(err) != -1 {
				t.Errorf("the gate said good-bye in the upstream's name: %v", err)
			}
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	e.inTime(t, start)
}

func (e ending) stream(t *testing.T, with http.RoundTripper) {
	start := starved.Begin(t)
	res, err := e.ask(t, with, http.MethodGet, "/api/v1/ingest/do/drip", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	e.inTime(t, start)
	if err == nil || len(body) == 0 || len(body) == drops || res.StatusCode != http.StatusOK {
		t.Errorf("%d %q %v, want a part of the stream and an error", res.StatusCode, body, err)
	}
	if res.ProtoMajor != 2 {
		return
	}
	if !strings.Contains(err.Error(), "stream error") {
		t.Errorf("%v, want a reset of the stream", err)
	}
	kept := false
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { kept = c.Reused },
	}), http.MethodGet, "http://"+e.addr+"/api/v1/ingest/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+e.token)
	again, err := with.RoundTrip(r)
	if err != nil || again.StatusCode != http.StatusOK || !kept {
		t.Fatalf("the next request: %v %v, on the same connection: %v", again, err, kept)
	}
	_ = again.Body.Close()
}

func (e ending) upload(t *testing.T) {
	body, pen := io.Pipe()
	go func() {
		for {
			if _, err := pen.Write([]byte("x")); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	start := starved.Begin(t)
	res, err := e.ask(t, http1(), http.MethodPost, "/api/v1/ingest/x", body)
	if err != nil {
		t.Fatal(err)
	}
	e.inTime(t, start)
	got, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	_ = body.CloseWithError(io.ErrClosedPipe)
	// The connection manager says 408 before a request has ended, and the router 504.
	answers := map[int]string{http.StatusGatewayTimeout: timedOut, http.StatusRequestTimeout: detail("Request timed out.")}
	if err != nil || answers[res.StatusCode] != string(got) || len(got) == 0 {
		t.Errorf("%d %s %v", res.StatusCode, got, err)
	}
}

func (e ending) unanswered(t *testing.T) {
	start := starved.Begin(t)
	got := e.do(t, "GET", "/api/v1/ingest/do/hang", "Authorization: Bearer "+e.token)
	e.inTime(t, start)
	checkReply(t, got, http.StatusGatewayTimeout, timedOut)
}
