package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/dns/dnsmessage"
)

// traffic is what clients do while something else happens to the gate.
type traffic struct {
	r       *rollout
	streams context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	finish  []func() error // what ends the long exchanges, and says if they were whole

	mu     sync.Mutex
	kinds  map[string]*kind
	posted atomic.Int64
	// sent and answered are of logins
	sent, answered atomic.Int64
}

// kind is one sort of exchange, at a pace, by a number of clients.
type kind struct {
	clients  int
	done     int
	failures []string
}

const (
	checks = "check" // of authz
	logins = "login" // of the login service
	opened = "open"  // exchanges that last
)

// load begins: some 200 checks a second on connections that are kept,
// logins and what follows them, a WebSocket, a stream and an upload.
func (r *rollout) load(t *testing.T) *traffic {
	t.Helper()
	streams, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &traffic{r: r, streams: streams, stop: stop, kinds: map[string]*kind{checks: {}, logins: {}, opened: {}}}
	t.Cleanup(func() { stop(); l.running.Wait() })
	u := r.withPassword(r.newMember())
	raw := token(t, claimsOf(u))

	for range 4 {
		l.repeat(checks, 30*time.Millisecond, func(c *http.Client) error {
			return l.ask(c, http.MethodGet, strictRoute, raw, "")
		})
		l.repeat(checks, 60*time.Millisecond, func(c *http.Client) error {
			return l.ask(c, http.MethodPost, fmt.Sprintf("%s?post=%d", strictRoute, l.posted.Add(1)), raw, `{"q":"once"}`)
		})
	}
	l.repeat(logins, 50*time.Millisecond, func(c *http.Client) error {
		return l.ask(c, http.MethodGet, "/api/v1/users/me", raw, "")
	})
	l.repeat(logins, 50*time.Millisecond, func(c *http.Client) error {
		return l.ask(c, http.MethodPost, "/api/v1/users/me/ensure-company", raw, "{}")
	})
	l.repeat(logins, 100*time.Millisecond, func(c *http.Client) error {
		l.sent.Add(1)
		err := l.ask(c, http.MethodPost, "/api/v1/users/login", "", credentials(u.email, u.password))
		if err == nil {
			l.answered.Add(1)
		}
		return err
	})
	l.socket(t, raw)
	l.events(t, raw)
	l.upload(raw)
	return l
}

// repeat does one thing again and again, at a pace, until the load ends.
func (l *traffic) repeat(sort string, every time.Duration, do func(*http.Client) error) {
	l.mu.Lock()
	l.kinds[sort].clients++
	l.mu.Unlock()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableCompression: true}}
	l.running.Go(func() {
		defer c.CloseIdleConnections()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-l.streams.Done():
				return
			case <-tick.C:
			}
			l.count(sort, do(c))
		}
	})
}

func (l *traffic) count(sort string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[sort]
	k.done++
	if err != nil {
		k.failures = append(k.failures, time.Now().Format("05.000 ")+err.Error())
	}
}

// ask is one request, which must be answered 200. It is sent once: Go's client
// would repeat some that fail on a connection that was kept.
func (l *traffic) ask(c *http.Client, method, path, raw, body string) error {
	r, err := http.NewRequestWithContext(context.Background(), method, l.r.gateway+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.GetBody = nil
	if raw != "" {
		r.Header.Set("Authorization", "Bearer "+raw)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	a, err := c.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }()
	text, err := readAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, a.StatusCode, text)
	}
	return err
}

// socket talks over one WebSocket all the time.
func (l *traffic) socket(t *testing.T, raw string) {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), l.r.gateway+strictRoute+"?do=socket", &websocket.DialOptions{HTTPHeader: bearer(raw)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	ctx := context.WithoutCancel(t.Context())
	l.repeat(opened, 50*time.Millisecond, func(*http.Client) error {
		if err := c.Write(ctx, websocket.MessageText, []byte("still here")); err != nil {
			return err
		}
		_, _, err := c.Read(ctx)
		return err
	})
}

// events holds a stream open, which goes on at the end.
func (l *traffic) events(t *testing.T, raw string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, l.r.gateway+strictRoute+"?do=stream", nil)
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
	expect := func(want string) error {
		got, err := lines.ReadString('\n')
		if err == nil && got != want {
			err = fmt.Errorf("stream: %q, want %q", got, want)
		}
		return err
	}
	if err := expect("data: first\n"); err != nil {
		t.Fatal(err)
	}
	l.finish = append(l.finish, func() error {
		l.r.query.hold <- struct{}{}
		if err := expect("\n"); err != nil {
			return err
		}
		return expect("data: second\n")
	})
}

// upload sends a body, a byte now and then, for as long as the load lasts.
func (l *traffic) upload(raw string) {
	body, pen := io.Pipe()
	answered := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, l.r.gateway+"/api/v1/ingest/upload?long", body)
		if err != nil {
			answered <- err
			return
		}
		r.Header = bearer(raw)
		a, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			_ = a.Body.Close()
			if a.StatusCode != http.StatusOK {
				err = fmt.Errorf("the upload is answered %d", a.StatusCode)
			}
		}
		_ = body.CloseWithError(err)
		answered <- err
	}()
	sent := int64(0)
	l.repeat(opened, 50*time.Millisecond, func(*http.Client) error {
		n, err := pen.Write([]byte("x"))
		sent += int64(n)
		return err
	})
	l.finish = append(l.finish, func() error {
		_ = pen.Close()
		if err := <-answered; err != nil {
			return err
		}
		got := l.r.ingest.requests()
		if len(got) != 1 || got[0].Body != sent {
			return fmt.Errorf("the upstream of the upload got %+v, want %d bytes", got, sent)
		}
		return nil
	})
}

// flows waits until every sort of exchange has been made some more.
func (l *traffic) flows() {
	l.r.t.Helper()
	now := func() map[string]int {
		l.mu.Lock()
		defer l.mu.Unlock()
		n := map[string]int{}
		for sort, k := range l.kinds {
			n[sort] = k.done
		}
		return n
	}
	before := now()
	eventually(l.r.t, "the load goes on", func() error {
		for sort, n := range now() {
			if n < before[sort]+10 {
				return fmt.Errorf("%s: %d", sort, n-before[sort])
			}
		}
		return nil
	})
}

// unharmed fails the test for every exchange that failed since it was last asked.
func (l *traffic) unharmed(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for sort, k := range l.kinds {
		if n := len(k.failures); n > 0 {
			t.Errorf("%d of sort %q failed, first:\n%s", n, sort, strings.Join(k.failures[:min(n, 5)], "\n"))
		}
		k.failures = nil
	}
	posts := map[string]int{}
	for _, r := range l.r.query.requests() {
		if strings.Contains(r.URI, "post=") {
			posts[r.URI]++
		}
	}
	for uri, n := range posts {
		if n > 1 {
			t.Errorf("%s came %d times", uri, n)
		}
	}
}

// harmed allows one failure for each client of a sort.
func (l *traffic) harmed(t testing.TB, sort string) {
	t.Helper()
	l.mu.Lock()
	k := l.kinds[sort]
	t.Logf("%d of %d clients of sort %q met a failure: %s", len(k.failures), k.clients, sort, strings.Join(k.failures, "; "))
	if len(k.failures) > k.clients {
		t.Errorf("more than what was under way")
	}
	k.failures = nil
	l.mu.Unlock()
	l.unharmed(t)
}

// end lets the long exchanges come to their own end.
func (l *traffic) end() {
	l.r.t.Helper()
	l.stop()
	l.running.Wait()
	for _, f := range l.finish {
		l.count(opened, f())
	}
	for sort, k := range l.kinds {
		l.r.t.Logf("%s: %d exchanges of %d clients", sort, k.done, k.clients)
	}
	// A login makes a session: none was made twice.
	var sessions int64
	if _, err := fmt.Sscan(l.r.text(`SELECT count(*)::text FROM sessions`), &sessions); err != nil {
		l.r.t.Fatal(err)
	}
	if sessions < l.answered.Load() || sessions > l.sent.Load() {
		l.r.t.Errorf("%d sessions, of %d logins that were sent and %d that were answered", sessions, l.sent.Load(), l.answered.Load())
	}
}

func readAll(r io.Reader) (string, error) {
	text, err := io.ReadAll(r)
	return string(text), err
}

// zone is a name server whose names come and go, as in a cluster.
type zone struct {
	address string
	mu      sync.Mutex
	hosts   map[string][]string
}

func newZone(t *testing.T) *zone {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	z := &zone{address: c.LocalAddr().String(), hosts: map[string][]string{}}
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			z.answer(&m)
			if out, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	}()
	return z
}

// of is the name of a service.
func (z *zone) of(service string) string { return service + ".rolling.test" }

func (z *zone) answer(m *dnsmessage.Message) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	if q.Type != dnsmessage.TypeA {
		return
	}
	for _, h := range z.hosts[strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")] {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 5},
			Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(h).To4())},
		})
	}
}

func (z *zone) add(service, host string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if name := z.of(service); !slices.Contains(z.hosts[name], host) {
		z.hosts[name] = append(z.hosts[name], host)
	}
}

func (z *zone) remove(service, host string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name := z.of(service)
	z.hosts[name] = slices.DeleteFunc(z.hosts[name], func(h string) bool { return h == host })
}

// wayTo is a proxy before a database, and the URL that leads through it.
type wayTo struct {
	*proxy
	url string
}

func newProxyTo(t testing.TB, database string) wayTo {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, u.Host)
	u.Host = p.address
	return wayTo{p, u.String()}
}
