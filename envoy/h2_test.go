package envoy_test

import (
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
)

// h2 speaks HTTP/2 without TLS from the first byte on.
type h2 struct {
	g      *gate
	client *http.Client
}

func h2client(g *gate) h2 {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return h2{g, &http.Client{Timeout: patience, Transport: transport}}
}

func (c h2) get(t *testing.T, path, token string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.g.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-User-ID", "evil")
	req.Header.Set("X_User_ID", "evil")
	res, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// deadAddress is a port of loopback that refuses: it was free a moment ago.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// unanswered is a port that neither accepts nor refuses: its queue is full.
func unanswered(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}
	// A queue of length 0 holds one; what comes after gets no answer.
	for range 4 {
		conn, err := net.DialTimeout("tcp", addr.String(), patience/100)
		if err != nil {
			break
		}
		t.Cleanup(func() { conn.Close() })
	}
	return addr.String()
}
