package envoy_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/atenex/gatehouse/envoy"
)

// TestConnectionsBeyondTheBoundAreClosedAtOnce fills the gate with silent clients. The
// admin page answers all the same, and whoever leaves makes room.
func TestConnectionsBeyondTheBoundAreClosedAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.MaxClients = 3 }})
	dial := func() net.Conn {
		t.Helper()
		c, err := net.DialTimeout("tcp", g.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	held := []net.Conn{dial(), dial(), dial()}
	poll(t, "three connections", func() bool { return g.stat(t, "http.edge.downstream_cx_active") == 3 })
	beyond := dial()
	_ = beyond.SetReadDeadline(time.Now().Add(patience))
	if _, err := beyond.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the fourth connection: %v, want it closed", err)
	}
	res, err := http.Get(g.admin + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the admin page: %s", res.Status)
	}
	held[0].Close()
	poll(t, "room for another", func() bool { return g.stat(t, "http.edge.downstream_cx_active") == 2 })
	if a := g.do(t, "GET", "/health"); a.status != http.StatusOK {
		t.Errorf("with room again: %d %s", a.status, a.body)
	}
}
