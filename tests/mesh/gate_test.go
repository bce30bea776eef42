package mesh

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// host is the name that clients call the gate by in every recipe.
const host = "api.example.com"

// gate is an Envoy set up by a recipe, with our authz behind it.
type gate struct {
	dial          func() (net.Conn, error)
	authz         *decider
	ingest, login *upstream

	// What a mesh cannot do is told here, so that it is held to that too: the
	// day it can, a test fails and the page is mended.

	// undecided is the answer while authz cannot be asked.
	undecided refusal
	// passing are spellings of forged headers that reach upstreams, in lower case.
	passing []string
	// unmarked: an answer of somebody else than authz lets requests pass.
	unmarked bool
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// reached reports whether an upstream, and not the gate, answered.
func (a answer) reached() bool { return a.header.Get("X-Upstream") == "reached" }

// try sends a request with these header lines as they are and reads the answer.
// Go's client refuses to send much of what an attacker would.
func (g *gate) try(method, path string, lines ...string) (answer, error) {
	c, err := g.dial()
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return answer{}, err
	}
	head := append([]string{method + " " + path + " HTTP/1.1", "Host: " + host}, lines...)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Connection:") }) {
		head = append(head, "Connection: close")
	}
	if method == http.MethodPost {
		head = append(head, "Content-Length: 0")
	}
	if _, err := io.WriteString(c, strings.Join(head, "\r\n")+"\r\n\r\n"); err != nil {
		return answer{}, err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return answer{status: r.StatusCode, header: r.Header, body: string(b)}, err
}

func (g *gate) ask(t testing.TB, method, path string, lines ...string) answer {
	t.Helper()
	a, err := g.try(method, path, lines...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (g *gate) forget() {
	g.ingest.forget()
	g.login.forget()
}

// none fails the test if anything reached an upstream.
func (g *gate) none(t testing.TB) {
	t.Helper()
	g.ingest.none(t)
	g.login.none(t)
}

func bearer(t testing.TB, c claims) string {
	t.Helper()
	return "Authorization: Bearer " + token(t, c)
}

// refusal is a row of the contract as a client sees it. An empty detail stands
// for any body.
type refusal struct {
	status            int
	detail, challenge string
}

var (
	anonymous    = refusal{401, "Not authenticated", "Bearer"}
	expired      = refusal{401, "Token has expired.", `Bearer error="invalid_token", error_description="The token has expired"`}
	wronglySaid  = refusal{401, "Invalid token format or structure.", `Bearer error="invalid_token", error_description="Malformed token"`}
	forgedToken  = refusal{401, "Invalid token signature.", `Bearer error="invalid_token", error_description="Invalid signature"`}
	unknownUser  = refusal{401, "User associated with token not found.", `Bearer error="invalid_token"`}
	inactiveUser = refusal{401, "User associated with token is inactive.", `Bearer error="invalid_token"`}
	noCompany    = refusal{403, "User authenticated, but required company association is missing or invalid in token.", `Bearer error="insufficient_scope"`}

	unavailable = refusal{status: 503, detail: "Authorization is temporarily unavailable."}
)

// refused fails the test unless the answer is this refusal to the letter.
func (a answer) refused(t testing.TB, want refusal) {
	t.Helper()
	if a.status != want.status || a.reached() {
		t.Fatalf("got %v, want %v", a, want)
	}
	if want.detail == "" {
		return
	}
	body, err := json.Marshal(map[string]string{"detail": want.detail})
	if err != nil {
		t.Fatal(err)
	}
	if a.body != string(body) {
		t.Errorf("body = %s, want %s", a.body, body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q", got)
	}
	if got := strings.Join(a.header.Values("WWW-Authenticate"), "|"); got != want.challenge {
		t.Errorf("WWW-Authenticate = %q, want %q", got, want.challenge)
	}
}
