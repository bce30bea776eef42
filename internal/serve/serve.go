// Package serve runs the servers of one process: it starts them in order,
// waits for the first that fails or for the signal to stop, and stops them in
// reverse, each within a bound.
//
// It must never know what any of them serves.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Part is one server of a process.
type Part struct {
	Name string
	// Serve blocks until Stop is called (nil) or the server fails.
	Serve func() error
	// Stop lets what is under way finish and returns at the end of ctx at the
	// latest, having cut off the rest.
	Stop func(ctx context.Context)
}

// Run starts the parts in order and returns nil when ctx has ended and all of
// them have stopped, or an error that names the part that failed first. The
// parts stop in reverse order, each within grace.
func Run(ctx context.Context, grace time.Duration, parts ...Part) error {
	failed := make(chan error, len(parts))
	for _, p := range parts {
		go func() {
			if err := p.Serve(); err != nil {
				failed <- fmt.Errorf("%s: %w", p.Name, err)
				return
			}
			failed <- nil
		}()
	}

	var first error
	running := len(parts)
	select {
	case <-ctx.Done():
	case first = <-failed:
		running--
		if first == nil && ctx.Err() == nil {
			first = errors.New("a server ended although nothing stopped it")
		}
	}

	for i := len(parts) - 1; i >= 0; i-- {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		parts[i].Stop(stopping)
		cancel()
	}
	for ; running > 0; running-- {
		if err := <-failed; first == nil {
			first = err
		}
	}
	return first
}

// HTTP makes a Part of an HTTP server and the listener it serves.
func HTTP(name string, l net.Listener, s *http.Server) Part {
	return Part{
		Name: name,
		Serve: func() error {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		Stop: func(ctx context.Context) {
			if s.Shutdown(ctx) != nil {
				// The grace is over: what still runs is cut off.
				_ = s.Close()
			}
		},
	}
}

// Drained keeps a part serving for a while after announce has said that it is
// about to stop, so that whoever sends requests has time to hear of it and sends
// none any more: a server that stops at once refuses what is on its way. What it
// waits is part of the grace.
func Drained(p Part, wait time.Duration, announce func()) Part {
	stop := p.Stop
	p.Stop = func(ctx context.Context) {
		announce()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		stop(ctx)
	}
	return p
}

// Farewell tells HTTP clients that the server they talk to is about to stop. The
// zero value says nothing yet.
type Farewell struct{ said atomic.Bool }

// Say makes every answer from now on the last one of its connection. Connections
// that are idle stay: to close them is to cut off the request that may be on its
// way, and the client closes them or hears it in its next answer.
func (f *Farewell) Say() { f.said.Store(true) }

// Said reports whether the server is about to stop.
func (f *Farewell) Said() bool { return f.said.Load() }

// Handler is h, with the word to the client in its answers.
func (f *Farewell) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.Said() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

const unixScheme = "unix://"

// Listen opens host:port for TCP or unix:///path for a Unix socket. A socket
// file that a killed process left behind is replaced; one that still answers
// is an error. The socket is open to its owner and group (mode 0660), which is
// how Envoy is let in.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	path, isUnix := strings.CutPrefix(address, unixScheme)
	if !isUnix {
		return config.Listen(ctx, "tcp", address)
	}
	if err := removeStaleSocket(ctx, path); err != nil {
		return nil, err
	}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // Envoy runs as another user of the same group
		_ = l.Close()
		return nil, fmt.Errorf("letting the group use the socket: %w", err)
	}
	return l, nil
}

func removeStaleSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil // nothing there; anything worse shows at listen
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	var d net.Dialer
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close()
		return fmt.Errorf("%s is in use by another process", path)
	}
	return os.Remove(path)
}

// Address is how a process on the same machine reaches l: unix:///path, or
// host:port with loopback in the place of a wildcard host.
func Address(l net.Listener) string {
	switch a := l.Addr().(type) {
	case *net.UnixAddr:
		return unixScheme + a.Name
	case *net.TCPAddr:
		host := a.IP
		if host == nil || host.IsUnspecified() {
			host = net.IPv4(127, 0, 0, 1)
		}
		return net.JoinHostPort(host.String(), fmt.Sprint(a.Port))
	default:
		return l.Addr().String()
	}
}
