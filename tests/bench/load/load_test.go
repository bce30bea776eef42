package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	ada = "aaaaaaaa-0000-4000-8000-000000000001"
	bob = "bbbbbbbb-0000-4000-8000-000000000002"
)

func credentials(t *testing.T, users ...string) *Credentials {
	t.Helper()
	c := &Credentials{}
	for i, u := range users {
		if err := c.Add(Credential{Token: fmt.Sprintf("token-%d-of-%s", i, u), User: u}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestRequestsAreHandedOutInOrder(t *testing.T) {
	tests := []struct {
		name     string
		requests func(*Credentials) *Requests
		want     []string // the users that the upstream must see, then the end
	}{
		{"everyone, again and again", Everyone, []string{ada, bob, ada, bob, ada}},
		{"once each, and then no more", func(c *Credentials) *Requests { return Once(c, 0, 2) }, []string{ada, bob, "end"}},
		{"a part of them", func(c *Credentials) *Requests { return Once(c, 1, 2) }, []string{bob, "end"}},
		{"no further than there are", func(c *Credentials) *Requests { return Once(c, 1, 9) }, []string{bob, "end"}},
		{"none at all", func(c *Credentials) *Requests { return Once(c, 2, 2) }, []string{"end"}},
		{"a gate that names everybody the same", func(c *Credentials) *Requests { return Everyone(c).Seeing("it") }, []string{"it", "it", "it"}},
		{"a gate that names nobody", func(c *Credentials) *Requests { return Everyone(c).Seeing("") }, []string{"", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.requests(credentials(t, ada, bob))
			var buf []byte
			for i, want := range tt.want {
				request, user, ok := r.Next(buf)
				got := string(user)
				if !ok {
					got = "end"
				}
				if got != want {
					t.Fatalf("request %d must show the user %q, want %q", i, got, want)
				}
				if !ok {
					break
				}
				parsed, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(request))))
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				if a := parsed.Header.Get("Authorization"); !strings.HasPrefix(a, "Bearer token-") {
					t.Errorf("request %d carries %q", i, a)
				}
				buf = request
			}
		})
	}
}

func TestCredentialsHaveUsersOfOneLength(t *testing.T) {
	if err := (&Credentials{}).Add(Credential{Token: "t", User: "short"}); err == nil {
		t.Error("a user that is no UUID was taken")
	}
}

// gate stands for Envoy: it asks an upstream and passes on what that says,
// except where broken says otherwise for the nth request.
func gate(t *testing.T, upstream string, broken func(n int64) string) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveGate(c, upstream, func() string { return broken(n.Add(1)) })
		}
	}()
	return l.Addr().String()
}

func serveGate(c net.Conn, upstream string, broken func() string) {
	defer c.Close()
	back, err := Dial(context.Background(), upstream)
	if err != nil {
		return
	}
	defer back.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if said := broken(); said != "" {
			if _, err := c.Write([]byte(said)); err != nil {
				return
			}
			continue
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, user, _ := strings.Cut(token, "-of-")
		if err := back.Send([]byte("GET / HTTP/1.1\r\nx-user-id: " + user + "\r\n\r\n")); err != nil {
			return
		}
		a, err := back.Receive()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 %d OK\r\nserver: envoy\r\ncontent-length: %d\r\n\r\n%s", a.Status, len(a.Body), a.Body)
	}
}

func upstream(t *testing.T) string {
	t.Helper()
	u, err := StartUpstream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u.Address()
}

func fine(int64) string { return "" }

func TestClosedLoopCountsAnswers(t *testing.T) {
	marks := 0
	got, err := Closed{
		Address: gate(t, upstream(t), fine), Connections: 4,
		Requests: Everyone(credentials(t, ada, bob)), WarmUp: 10 * time.Millisecond, Measure: 100 * time.Millisecond,
		Mark: func() error { marks++; return nil },
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Answers == 0 || got.Time < 100*time.Millisecond || marks != 2 {
		t.Errorf("%+v with %d marks, want answers over 100 ms between 2 marks", got, marks)
	}
}

func TestClosedLoopNeedsRequests(t *testing.T) {
	_, err := Closed{
		Address: gate(t, upstream(t), fine), Connections: 2,
		Requests: Once(credentials(t, ada), 0, 1), WarmUp: time.Hour, Measure: time.Hour,
		Mark: func() error { return nil },
	}.Run(t.Context())
	if !errors.Is(err, errTooFew) {
		t.Errorf("err = %v, want %v", err, errTooFew)
	}
}

func TestPacedCountsFromWhenARequestWasDue(t *testing.T) {
	const stall = 60 * time.Millisecond
	u := upstream(t)
	slow := gate(t, u, func(n int64) string {
		if n == 30 {
			<-time.After(stall)
		}
		return ""
	})
	got, err := Paced{
		Address: slow, Connections: 1, Requests: Everyone(credentials(t, ada)),
		PerSecond: 1000, WarmUp: 10 * time.Millisecond, Measure: 100 * time.Millisecond,
		Mark: func() error { return nil },
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Latencies) != 100 || len(got.Late) != 100 {
		t.Fatalf("%d latencies and %d latenesses, want 100 of each", len(got.Latencies), len(got.Late))
	}
	// All that were due during the stall had to wait for it, not only the one
	// that met it.
	waited := 0
	for _, l := range got.Latencies {
		if l > stall/3 {
			waited++
		}
	}
	if waited < 20 {
		t.Errorf("%d requests show the stall, want at least 20: the rest would hide it", waited)
	}
}

func TestWrongAnswersEndARun(t *testing.T) {
	tests := []struct {
		name string
		said string
		want string
	}{
		{"a refusal", "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", "answered 403: no"},
		{"somebody else", "HTTP/1.1 200 OK\r\ncontent-length: 36\r\n\r\n" + bob, "instead of"},
		{"nobody", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "instead of"},
		{"two answers", strings.Repeat("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 2), "more than one answer"},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n", "without a length"},
		{"no HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n", "not an answer"},
		{"an absurd length", "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "an answer of"},
		{"a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", "the length"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstream(t)
			third := func(n int64) string {
				if n == 3 {
					return tt.said
				}
				return ""
			}
			mark := func() error { return nil }
			_, closed := Closed{
				Address: gate(t, u, third), Connections: 1, Requests: Everyone(credentials(t, ada)),
				Measure: time.Minute, Mark: mark,
			}.Run(t.Context())
			_, paced := Paced{
				Address: gate(t, u, third), Connections: 1, Requests: Everyone(credentials(t, ada)),
				PerSecond: 1000, Measure: 10 * time.Second, Mark: mark,
			}.Run(t.Context())
			for what, err := range map[string]error{"closed loop": closed, "fixed rate": paced} {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: err = %v, want %q in it", what, err, tt.want)
				}
			}
		})
	}
}

func TestUpstreamSaysWhomItSaw(t *testing.T) {
	tests := []struct {
		name    string
		headers string
		want    string
	}{
		{"nobody", "host: x\r\n", ""},
		{"one", "host: x\r\nx-user-id: " + ada + "\r\n", ada},
		{"two are an error", "x-user-id: " + ada + "\r\nx-user-id: " + bob + "\r\n", errTwo.Error()},
	}
	c, err := Dial(t.Context(), upstream(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := c.Send([]byte("GET / HTTP/1.1\r\n" + tt.headers + "\r\n")); err != nil {
				t.Fatal(err)
			}
			a, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != 200 || string(a.Body) != tt.want {
				t.Errorf("%d %q, want 200 %q", a.Status, a.Body, tt.want)
			}
		})
	}
}
