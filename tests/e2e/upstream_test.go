package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

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
// request and answers 200, with a few paths that do more.
type upstream struct {
	*httptest.Server
	mu   sync.Mutex
	got  []seen
	hold chan struct{} // closed to let /stream go on to its second event
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{hold: make(chan struct{})}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/v1/query/socket":
		u.note(r, 0)
		u.socket(w, r)
		return
	case "/api/v1/query/stream":
		u.note(r, 0)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: first\n\n")
		w.(http.Flusher).Flush()
		<-u.hold
		_, _ = io.WriteString(w, "data: second\n\n")
		return
	case "/api/v1/query/silent":
		u.note(r, 0)
		select {
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
		return
	case "/api/v1/query/teapot":
		u.note(r, 0)
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
		return
	case "/api/v1/query/reset":
		u.note(r, 0)
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	n, _ := io.Copy(io.Discard, r.Body)
	u.note(r, n)
	w.Header().Set("X-Upstream", "reached")
	_, _ = io.WriteString(w, "ok")
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
