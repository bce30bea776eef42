package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// seen is one request as an upstream got it.
type seen struct {
	Method string
	URI    string // path and query as sent
	Header http.Header
	Body   int64
}

// upstream is an ordinary HTTP service behind the gate. It writes down every
// request and answers 200; the query parameter do asks for something else.
type upstream struct {
	*httptest.Server
	mu  sync.Mutex
	got []seen
	// hold lets ?do=stream go on to its second event.
	hold chan struct{}
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{hold: make(chan struct{})}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	n := int64(0)
	if r.Header.Get("Upgrade") == "" {
		n, _ = io.Copy(io.Discard, r.Body)
	}
	u.note(r, n)
	w.Header().Set("X-Upstream", "reached")
	switch r.URL.Query().Get("do") {
	case "socket":
		u.socket(w, r)
	case "stream":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: first\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-u.hold:
			_, _ = io.WriteString(w, "data: second\n\n")
		case <-r.Context().Done():
		}
	case "silence":
		<-r.Context().Done()
	case "teapot":
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Expose-Headers", "X-Upstreams-Own")
		w.Header().Set("Vary", "Accept-Encoding, Origin")
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	case "fault":
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"title":"the upstream's own words"}`)
	case "reset":
		panic(http.ErrAbortHandler) // the connection ends without an answer
	default:
		_, _ = io.WriteString(w, "ok")
	}
}

func (u *upstream) socket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, text, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, text); err != nil {
			return
		}
	}
}

func (u *upstream) note(r *http.Request, body int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = append(u.got, seen{Method: r.Method, URI: r.RequestURI, Header: r.Header.Clone(), Body: body})
}

// requests are those since the last call of forget.
func (u *upstream) requests() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]seen(nil), u.got...)
}

func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = nil
}

// only is the one request that came since forget.
func (u *upstream) only(t testing.TB) seen {
	t.Helper()
	got := u.requests()
	if len(got) != 1 {
		t.Fatalf("the upstream got %d requests, want 1", len(got))
	}
	return got[0]
}

// none fails the test if any request came since forget.
func (u *upstream) none(t testing.TB) {
	t.Helper()
	for _, r := range u.requests() {
		t.Errorf("the upstream was reached: %s %s", r.Method, r.URI)
	}
}
