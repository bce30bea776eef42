package login_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/login"
)

// pipes is a listener within a synctest bubble: its connections have deadlines
// on the bubble's clock, so that minutes of waiting cost none.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial opens a connection to a server of the stage.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func serving(t *testing.T, g *stage) *pipes {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := login.NewHTTPServer(g.handler, slog.New(slog.DiscardHandler))
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(p) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-stopped; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with %v", err)
		}
	})
	return p
}

func TestAClientThatDawdles(t *testing.T) {
	const head = "POST " + loginPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	tests := []struct {
		name   string
		sends  string
		status int // 0: the connection is closed without an answer
		body   string
		within time.Duration
	}{
		{"over its headers is cut off", "POST " + loginPath + " HTTP/1.1\r\nHost: x\r\n", 0, "", 5 * time.Second},
		{"over its body is told so", head + "Content-Length: 100\r\n\r\n{", 408, `{"detail":"Request body took too long."}`, 10 * time.Second},
		{"over a body that it says is too large is told so at once", head + "Content-Length: 65537\r\n\r\n{", 413, `{"detail":"Request body too large."}`, 0},
		{"over its body in chunks is told so", head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 408, `{"detail":"Request body took too long."}`, 10 * time.Second},
		{"before its body is told so", head + "Content-Length: 100\r\n\r\n", 408, `{"detail":"Request body took too long."}`, 10 * time.Second},
		{"over the body of a path that does not exist is not waited for", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", 404, `{"detail":"Not Found"}`, 0},
		{"over the body of a GET is not waited for", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", 200, `{"message":"Gatehouse is running!"}`, 0},
		{"over a body of the wrong type is not waited for", "POST " + loginPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n{", 415, wrongType, 0},
		{"over a token that is missing is not waited for", "POST " + ensurePath + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", 401, `{"detail":"Not authenticated"}`, 0},
		{"over chunks that are none is told so", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, `{"detail":"Request body could not be read."}`, 0},
		{"over the options of everything is told that there is no such path", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, `{"detail":"Not Found"}`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serving(t, newStage(t, store{})).dial()
				defer conn.Close()
				start := time.Now()
				go func() { _, _ = io.WriteString(conn, tt.sends) }()
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if took := time.Since(start); took != tt.within {
					t.Errorf("answered after %v, want %v", took, tt.within)
				}
				if tt.status == 0 {
					if err == nil {
						t.Errorf("was answered with %d", answer.StatusCode)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				body, err := io.ReadAll(answer.Body)
				if err != nil || answer.StatusCode != tt.status || string(body) != tt.body {
					t.Errorf("got %d %s (%v)", answer.StatusCode, body, err)
				}
				if tt.status != http.StatusNotFound && !answer.Close && !strings.HasPrefix(tt.sends, "OPTIONS") {
					t.Error("the connection was kept, with half a body in it")
				}
			})
		})
	}
}

// The deadline of a body must not reach into the time that the answer takes, nor
// into the next request of the connection.
func TestTheDeadlineOfABodyEndsWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := holding(adaWith(""))
		find := s.accountByEmail
		s.accountByEmail = func(ctx context.Context, email string) (identity.Account, error) {
			select {
			case <-time.After(3 * time.Second): // on the bubble's clock
				return find(ctx, email)
			case <-ctx.Done():
				return identity.Account{}, ctx.Err()
			}
		}
		conn := serving(t, newStage(t, s)).dial()
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for i := range 3 {
			go func() {
				_, _ = io.WriteString(conn, "POST "+loginPath+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n")
				<-time.After(9 * time.Second) // just in time
				_, _ = io.WriteString(conn, `{"email":"ada@example.com","password":"123456789"}`)
			}()
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusUnauthorized || answer.Close {
				t.Fatalf("request %d: %d, closed: %v (%v)", i, answer.StatusCode, answer.Close, err)
			}
			_ = answer.Body.Close()
			<-time.After(30 * time.Second) // longer than any deadline but the idle one
		}
	})
}

func TestBoundsOfTheServer(t *testing.T) {
	server := login.NewHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if server.ReadHeaderTimeout != 5*time.Second || server.MaxHeaderBytes != 16<<10 || server.WriteTimeout < 15*time.Second || server.IdleTimeout <= 60*time.Second {
		t.Errorf("header time %v, header bytes %d, write time %v, idle time %v", server.ReadHeaderTimeout, server.MaxHeaderBytes, server.WriteTimeout, server.IdleTimeout)
	}
	if login.MaxConnections != 1024 {
		t.Errorf("%d connections", login.MaxConnections)
	}
}
