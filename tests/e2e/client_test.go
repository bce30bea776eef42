package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (a answer) is(status int) error {
	if a.err != nil {
		return a.err
	}
	if a.status != status {
		return fmt.Errorf("status %d (%s), want %d", a.status, a.body, status)
	}
	return nil
}

// reached reports whether an upstream, and not the gate, answered.
func (a answer) reached() bool { return a.header.Get("X-Upstream") == "reached" }

// detail is the text of a refusal, or the whole body where it is none.
func (a answer) detail() string {
	var b struct{ Detail string }
	if json.Unmarshal([]byte(a.body), &b) != nil || b.Detail == "" {
		return a.body
	}
	return b.Detail
}

// want fails the test unless the answer is a refusal with this status and text.
func (a answer) want(t testing.TB, status int, detail string) {
	t.Helper()
	if a.err != nil {
		t.Fatal(a.err)
	}
	if a.status != status || a.detail() != detail {
		t.Errorf("got %d %s, want %d %q", a.status, a.body, status, detail)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q, want application/json", got)
	}
}

var client = &http.Client{
	Timeout:       30 * time.Second,
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends a request to the gate.
func (s *stack) do(method, path string, header http.Header, body string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.gateway, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	// As written: url.Parse would tidy up what these tests are about.
	r.URL.Opaque = path
	for name, values := range header {
		r.Header[name] = values
	}
	a, err := client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	return answer{status: a.StatusCode, header: a.Header, body: string(b), err: err}
}

func (s *stack) get(path string, header http.Header) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, header, "")
}

// postJSON sends a JSON body.
func (s *stack) postJSON(path string, header http.Header, body string) answer {
	s.t.Helper()
	h := http.Header{"Content-Type": {"application/json"}}
	for name, values := range header {
		h[name] = values
	}
	return s.do(http.MethodPost, path, h, body)
}

// bearer is the header of an authenticated client.
func bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

// raw sends bytes as they are and reads one answer. Go's client refuses to send
// much of what an attacker would.
func (s *stack) raw(request string) answer {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", s.address, patience)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{err: err}
	}
	if _, err := io.WriteString(c, request); err != nil {
		return answer{err: err}
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return answer{status: r.StatusCode, header: r.Header, body: string(b), err: err}
}

// rawGET is a GET with these header lines, as they are.
func rawGET(path string, lines ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: gate.example\r\n" + strings.Join(append(lines, "Connection: close"), "\r\n") + "\r\n\r\n"
}
