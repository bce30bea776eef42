package mesh

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// seen is one request as an upstream got it.
type seen struct {
	method, uri string
	header      http.Header
}

// upstream is an ordinary service behind a gate, which writes down what came.
type upstream struct {
	address string
	mu      sync.Mutex
	got     []seen
}

// newUpstream serves at an address of its own.
func newUpstream(t testing.TB) *upstream {
	t.Helper()
	return newUpstreamAt(t, "127.0.0.1:0")
}

func newUpstreamAt(t testing.TB, address string) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{address: l.Addr().String()}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.got = append(u.got, seen{method: r.Method, uri: r.RequestURI, header: r.Header.Clone()})
		u.mu.Unlock()
		w.Header().Set("X-Upstream", "reached")
		_, _ = io.WriteString(w, "ok")
	}))
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return u
}

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
		t.Fatalf("the upstream got %d requests, want 1: %v", len(got), got)
	}
	return got[0]
}

// none fails the test if a request came since forget.
func (u *upstream) none(t testing.TB) {
	t.Helper()
	for _, r := range u.requests() {
		t.Errorf("the upstream got %s %s", r.method, r.uri)
	}
}

// identityOf is what a request claims about who is asking.
func identityOf(r seen) map[string][]string {
	out := map[string][]string{}
	for _, name := range []string{"X-User-Id", "X-Company-Id", "X-User-Email"} {
		if v, there := r.header[name]; there {
			out[name] = v
		}
	}
	return out
}
