package e2e

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A stream is judged when it begins. With a bound on its length, it does not
// outlive its token, nor its user's dismissal by more than that bound: it ends,
// and to begin it again is to be judged again.
func TestAStreamEndsWithItsTokenAndIsJudgedAgain(t *testing.T) {
	t.Parallel()
	// A request is given 10 s at the least, so that none of this is shorter.
	const longest = 12 * time.Second
	s := startStackWithoutLogin(t, map[string]string{"GATEWAY_STREAM_MAX_DURATION": "12"})
	for _, c := range []struct {
		name  string
		ends  time.Duration // of the token, from now on; whole seconds are cut
		fired bool          // while the stream is open
		after time.Duration
	}{
		{"a token that ends sooner than the bound", 11500 * time.Millisecond, false, 10500 * time.Millisecond},
		{"a user who is dismissed meanwhile", time.Hour, true, longest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			u := s.newMember()
			raw := token(t, claimsOf(u).with("exp", time.Now().Add(c.ends).Unix()))
			watch := stopwatch()
			open := map[string]<-chan error{"WebSocket": s.held(t, raw), "stream": s.streamed(t, raw)}
			if c.fired {
				s.sql(`UPDATE users SET is_active = false WHERE id = $1::uuid`, u.id)
			}
			for what, ended := range open {
				select {
				case err := <-ended:
					// What is early is a fault; a busy machine may be late.
					if took := watch.Passed(); took < c.after-50*time.Millisecond || overdue(watch, c.after+4*time.Second) {
						t.Errorf("the %s ended after %v (%v), want %v", what, took, err, c.after)
					}
				case <-time.After(longest + patience):
					t.Fatalf("the %s is still open", what)
				}
			}
			a := s.get(strictRoute, bearer(raw))
			if c.fired {
				a.expect(t, inactiveUser)
			} else {
				a.expect(t, expired)
			}
		})
	}
}

// held is a WebSocket on which messages go to and fro until it ends.
func (s *stack) held(t *testing.T, raw string) <-chan error {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), s.gateway+strictRoute+"?do=socket", &websocket.DialOptions{HTTPHeader: bearer(raw)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	ended := make(chan error, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			err := c.Write(ctx, websocket.MessageText, []byte("still here"))
			if err == nil {
				_, _, err = c.Read(ctx)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// streamed is a stream of events that has begun and does not end by itself.
func (s *stack) streamed(t *testing.T, raw string) <-chan error {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.gateway+strictRoute+"?do=stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = bearer(raw)
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Body.Close() })
	lines := bufio.NewReader(a.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "data: first\n" {
		t.Fatalf("the stream begins with %q, %v", line, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, lines)
		if err == nil {
			err = errors.New("the end, as if it were whole")
		}
		ended <- err
	}()
	return ended
}
