package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// upstream is an HTTP server in this process, as a Part.
type upstream struct {
	name   string
	server *http.Server
	url    string
	done   chan struct{}
	err    error // valid after done
}

func startUpstream(ctx context.Context, name string, h http.Handler) (*upstream, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the demo upstream %s: %w", name, err)
	}
	u := &upstream{
		name:   name,
		server: &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second},
		url:    "http://" + l.Addr().String(),
		done:   make(chan struct{}),
	}
	go func() {
		defer close(u.done)
		u.err = u.server.Serve(l)
	}()
	return u, nil
}

func (u *upstream) Done() <-chan struct{} { return u.done }

func (u *upstream) Err() error {
	select {
	case <-u.done:
		return fmt.Errorf("the demo upstream %s ended: %w", u.name, u.err)
	default:
		return nil
	}
}

func (u *upstream) Stop(ctx context.Context) error {
	if err := u.server.Shutdown(ctx); err != nil {
		// What still runs is cut off: nobody is left to read it.
		return errors.Join(u.server.Close())
	}
	return nil
}
