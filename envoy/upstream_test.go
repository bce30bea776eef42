package envoy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// upstream is a real service behind the gate. What it does is said by the header
// Do or the last segment of a path with /do/; otherwise it tells what it received.
type upstream struct {
	name   string
	server *httptest.Server
	steps  chan string   // where a handler waits for the test, and the test for it
	step   chan struct{} // lets a waiting handler go on
}

// echo is what an upstream received.
type echo struct {
	Upstream string
	Method   string
	URI      string
	Host     string
	Header   http.Header
	Bytes    int64
}

func startUpstream(t *testing.T, name string, cleanup func(func())) *upstream {
	t.Helper()
	u := &upstream{name: name, steps: make(chan string, 16), step: make(chan struct{})}
	u.server = httptest.NewServer(http.HandlerFunc(u.serve))
	cleanup(func() {
		u.server.CloseClientConnections()
		u.server.Close()
	})
	return u
}

func (u *upstream) url() string { return u.server.URL }

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	what := r.Header.Get("Do")
	if strings.Contains(r.URL.Path, "/do/") {
		what = path.Base(r.URL.Path)
	}
	flush := func() { _ = http.NewResponseController(w).Flush() }
	switch what {
	case "":
		u.echo(w, r)
	case "headers": // everything that the gate must take away or keep
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", "TRACE")
		h.Set("Access-Control-Made-Up", "yes")
		h.Set("X-Request-ID", "the-upstream's-own")
		h.Set("X-Process-Time", "1.0")
		h.Set("X-Custom", "kept")
		h.Set("Server", "upstream/1.0")
		u.echo(w, r)
	case "vary":
		for _, v := range r.URL.Query()["v"] {
			w.Header().Add("Vary", v)
		}
		u.echo(w, r)
	case "hang":
		// A server that has not read the body does not see its client go.
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case u.steps <- "hanging":
		default:
		}
		<-r.Context().Done()
	case "stall": // some bytes, then nothing
		_, _ = io.WriteString(w, "some")
		flush()
		<-r.Context().Done()
	case "reset":
		if tcp, ok := hijack(w).(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			tcp.Close()
		}
	case "close":
		hijack(w).Close()
	case "garbage":
		conn := hijack(w)
		_, _ = io.WriteString(conn, "this is no HTTP\r\n\r\n")
		conn.Close()
	case "truncate":
		conn := hijack(w)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		conn.Close()
	case "huge-header":
		w.Header().Set("X-Huge", strings.Repeat("x", 200<<10))
		u.echo(w, r)
	case "events": // one event for every step that the test allows
		w.Header().Set("Content-Type", "text/event-stream")
		flush()
		for i := range 3 {
			select {
			case <-u.step:
			case <-r.Context().Done():
				return
			}
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			flush()
		}
	case "drip": // a stream that lasts longer than the time-out but never pauses for as long
		for range drops {
			_, _ = io.WriteString(w, ".")
			flush()
			<-time.After(dripping / drops)
		}
	case "read": // tells the test of every byte that arrives
		buf := make([]byte, 1)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				u.steps <- string(buf[:n])
			}
			if err != nil {
				break
			}
		}
		u.echo(w, r)
	case "websocket":
		u.websocket(w, r)
	default:
		code, err := strconv.Atoi(what)
		if err != nil {
			http.Error(w, "the test asks for something unknown: "+what, http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "the upstream's own "+what)
	}
}

func (u *upstream) echo(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(echo{u.name, r.Method, r.RequestURI, r.Host, r.Header, n})
}

func (u *upstream) websocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	hello, _ := json.Marshal(echo{Upstream: u.name, Method: r.Method, URI: r.RequestURI, Host: r.Host, Header: r.Header})
	if c.Write(r.Context(), websocket.MessageText, hello) != nil {
		return
	}
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	return conn
}
