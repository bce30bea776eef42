package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Many people at once on shared connections: nobody is taken for another.
func TestIdentitiesAreNotMixed(t *testing.T) {
	s := shared(t)
	const people, requests = 16, 12
	company := s.newCompany()
	var all sync.WaitGroup
	failures := make(chan error, people*requests)
	for range people {
		u := s.newUser(company)
		h := bearer(token(t, claimsOf(u)))
		all.Go(func() {
			for i := range requests {
				if a := s.get(fmt.Sprintf("/api/v1/query/%s?%d", u.id, i), h); a.err != nil || a.status != http.StatusOK {
					failures <- fmt.Errorf("%d %s %w", a.status, a.body, a.err)
				}
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	got := s.query.requests()
	if len(got) != people*requests {
		t.Errorf("%d requests arrived, want %d", len(got), people*requests)
	}
	for _, r := range got {
		if id := r.Header.Get("X-User-Id"); !strings.Contains(r.URI, id) || id == "" {
			t.Errorf("%s arrived as %s", r.URI, id)
		}
	}
}

// What one request proved says nothing of the next on the same connection.
func TestEveryRequestOfAConnectionIsJudged(t *testing.T) {
	s := shared(t)
	c, err := net.DialTimeout("tcp", s.address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	first, second := s.newMember(), s.newMember()
	head := "GET " + strictRoute + " HTTP/1.1\r\nHost: gate.example\r\n"
	with := func(u user) string { return head + "Authorization: Bearer " + token(t, claimsOf(u)) + "\r\n\r\n" }
	// All at once, as a client that pipelines does.
	if _, err := io.WriteString(c, with(first)+head+"\r\n"+with(second)+head+"X-User-ID: "+first.id+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(c)
	for i, want := range []int{200, 401, 200, 401} {
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i+1, r.StatusCode, want)
		}
	}
	got := s.query.requests()
	if len(got) != 2 || got[0].Header.Get("X-User-Id") != first.id || got[1].Header.Get("X-User-Id") != second.id {
		t.Errorf("%d requests arrived, want those of the two users in turn", len(got))
	}
}
