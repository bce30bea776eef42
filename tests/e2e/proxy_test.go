package e2e

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// proxy stands between the gate and PostgreSQL and can fall silent without
// closing anything, as a machine does that has lost its network. It can do so for
// some connections alone, by the application_name that they began with.
type proxy struct {
	address string
	mu      sync.Mutex
	running *sync.Cond
	frozen  func(name string) bool
	open    []net.Conn
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String()}
	p.running = sync.NewCond(&p.mu)
	t.Cleanup(func() {
		_ = l.Close()
		p.thaw()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.open {
			_ = c.Close()
		}
	})
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.join(in, target)
		}
	}()
	return p
}

func (p *proxy) join(in net.Conn, target string) {
	p.mu.Lock()
	p.open = append(p.open, in)
	p.mu.Unlock()
	begun, name, err := startup(in)
	if err != nil {
		_ = in.Close()
		return
	}
	p.wait(name) // even its handshake is not answered
	out, err := net.Dial("tcp", target)
	if err != nil {
		_ = in.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, out)
	p.mu.Unlock()
	if _, err := out.Write(begun); err != nil {
		_ = in.Close()
		_ = out.Close()
		return
	}
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			defer func() { _ = pair[0].Close(); _ = pair[1].Close() }()
			buffer := make([]byte, 32<<10)
			for {
				n, err := pair[0].Read(buffer)
				if n > 0 {
					p.wait(name)
					if _, err := pair[1].Write(buffer[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// startup reads a client's first message, which has its length, a version and
// then pairs of names and values, each ended by a zero byte. A request to cancel
// has no name, nor has one for TLS, which is not spoken here.
func startup(in io.Reader) (message []byte, name string, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, "", err
	}
	length := binary.BigEndian.Uint32(head)
	if length < 8 || length > 10_000 {
		return nil, "", errors.New("this is not PostgreSQL's protocol")
	}
	message = make([]byte, length)
	copy(message, head)
	if _, err := io.ReadFull(in, message[8:]); err != nil {
		return nil, "", err
	}
	words := strings.Split(string(message[8:]), "\x00")
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == "application_name" {
			name = words[i+1]
		}
	}
	return message, name, nil
}

// wait blocks while the connections of this name are frozen.
func (p *proxy) wait(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen != nil && p.frozen(name) {
		p.running.Wait()
	}
}

// freeze stops the connections with these names; none: all.
func (p *proxy) freeze(names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = nil
	p.running.Broadcast()
}
