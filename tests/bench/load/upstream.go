package load

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
)

// Upstream is the service behind the gate: it answers every request with the user
// that the gate named, so that whoever asked can see that the right one arrived.
type Upstream struct {
	listener net.Listener
	wait     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil: closed
}

// StartUpstream listens on a free port of loopback.
func StartUpstream(ctx context.Context) (*Upstream, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &Upstream{listener: l, conns: map[net.Conn]bool{}}
	u.wait.Go(u.accept)
	return u, nil
}

// Address is host:port.
func (u *Upstream) Address() string { return u.listener.Addr().String() }

// Close ends every connection and returns when nothing of it runs any more.
func (u *Upstream) Close() error {
	err := u.listener.Close()
	u.mu.Lock()
	for c := range u.conns {
		_ = c.Close()
	}
	u.conns = nil
	u.mu.Unlock()
	u.wait.Wait()
	return err
}

func (u *Upstream) accept() {
	for {
		c, err := u.listener.Accept()
		if err != nil {
			return // closed
		}
		u.mu.Lock()
		open := u.conns != nil
		if open {
			u.conns[c] = true
		}
		u.mu.Unlock()
		if !open {
			_ = c.Close()
			return
		}
		u.wait.Go(func() {
			u.serve(c)
			u.mu.Lock()
			delete(u.conns, c)
			u.mu.Unlock()
			_ = c.Close()
		})
	}
}

// serve answers one request after the other. Requests have no body, and Envoy
// sends the next one when it has the answer.
func (u *Upstream) serve(c net.Conn) {
	in, out := make([]byte, 32<<10), make([]byte, 0, 256)
	n := 0
	for n < len(in) {
		m, err := c.Read(in[n:])
		if err != nil {
			return
		}
		n += m
		if !bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
			continue
		}
		user, err := userIn(in[:n])
		if err != nil {
			user = []byte(err.Error())
		}
		out = append(out[:0], "HTTP/1.1 200 OK\r\ncontent-length: "...)
		out = strconv.AppendInt(out, int64(len(user)), 10)
		out = append(out, "\r\n\r\n"...)
		out = append(out, user...)
		if _, err := c.Write(out); err != nil {
			return
		}
		n = 0
	}
}

const userHeader = "\r\nx-user-id: "

var errTwo = errors.New("two users at once")

// userIn finds the one x-user-id; nobody is named by nothing.
func userIn(head []byte) ([]byte, error) {
	_, after, found := bytes.Cut(head, []byte(userHeader))
	if !found {
		return nil, nil
	}
	if bytes.Contains(after, []byte(userHeader)) {
		return nil, errTwo
	}
	user, _, _ := bytes.Cut(after, []byte("\r\n"))
	return user, nil
}
