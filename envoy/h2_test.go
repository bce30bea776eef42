package envoy_test

import (
	"fmt"
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

// deadAddress is a port of loopback that refuses.
func deadAddress(t *testing.T) string {
	t.Helper()
	// Bound and not listened on, and held until the end: a port that is free goes to
	// the next test that asks for one.
	return bound(t, func(int) error { return nil })
}

// bound is the address of a socket for the length of the test, after something more
// was done to it.
func bound(t *testing.T, more func(fd int) error) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := more(fd); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("the socket's name is a %T", name)
	}
	return fmt.Sprintf("127.0.0.1:%d", in.Port)
}

// unanswered is a port that neither accepts nor refuses: its queue is full.
func unanswered(t *testing.T) string {
	t.Helper()
	address := bound(t, func(fd int) error { return syscall.Listen(fd, 0) })
	// A queue of length 0 holds one; what comes after gets no answer.
	for range 4 {
		conn, err := net.DialTimeout("tcp", address, patience/100)
		if err != nil {
			break
		}
		t.Cleanup(func() { conn.Close() })
	}
	return address
}
