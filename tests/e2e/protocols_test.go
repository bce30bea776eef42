package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestHTTP10IsJudgedTheSame(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	// Envoy refuses it or serves it; it lets nothing through either way.
	for _, request := range []string{
		"GET " + strictRoute + " HTTP/1.0\r\n\r\n",
		"GET " + strictRoute + " HTTP/1.0\r\nHost: gate.example\r\nX-User-ID: " + u.id + "\r\nX-Company-ID: " + u.company + "\r\n\r\n",
	} {
		oneOf(t, s.raw(request), http.StatusUnauthorized, http.StatusUpgradeRequired)
	}
	s.query.none(t)
}

func TestUnknownMethodsReachNothing(t *testing.T) {
	s := shared(t)
	good := "Authorization: Bearer " + token(t, claimsOf(s.newMember()))
	for _, method := range []string{"FOO", "get", "PROPFIND", "PURGE", "GETX", "BREW", "CONNECT", "TRACE", "M-SEARCH", "PRI"} {
		for _, path := range []string{strictRoute, "/health", "/nowhere"} {
			t.Run(method+" "+path, func(t *testing.T) {
				s := s.in(t)
				s.query.forget()
				a := s.raw(method + " " + path + " HTTP/1.1\r\nHost: gate.example\r\n" + good + "\r\nConnection: close\r\n\r\n")
				if a.err == nil {
					oneOf(t, a, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented)
				}
				s.query.none(t)
			})
		}
	}
	// A method that hides behind another one.
	for _, h := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		s.query.forget()
		s.do("POST", strictRoute, http.Header{"Authorization": {good[15:]}, h: {"DELETE"}}, "").expect(t, accepted)
		if got := s.query.only(t).Header.Values(h); len(got) != 0 {
			t.Errorf("the upstream got %s: %q", h, got)
		}
	}
}

// h2 sends a request as HTTP/2 without TLS, with prior knowledge.
func (s *stack) h2(method, path string, header http.Header) answer {
	s.t.Helper()
	transport := &http.Transport{Protocols: &http.Protocols{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.gateway+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	a, err := transport.RoundTrip(r)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	return answer{status: a.StatusCode, header: a.Header, body: string(b), err: err}
}

func TestHTTP2IsJudgedTheSame(t *testing.T) {
	s := shared(t)
	u, victim := s.newMember(), s.newMember()
	good := bearer(token(t, claimsOf(u)))
	s.h2("GET", strictRoute, nil).expect(t, anonymous)
	s.h2("GET", strictRoute, http.Header{"X-User-Id": {victim.id}}).expect(t, anonymous)
	s.h2("GET", strictRoute, bearer(token(t, claimsOf(u).with("exp", 1)))).expect(t, expired)
	s.h2("GET", strictRoute, http.Header{"Authorization": {good.Get("Authorization"), good.Get("Authorization")}}).expect(t, anonymous)
	oneOf(t, s.h2("GET", "/nowhere", good), http.StatusNotFound)
	oneOf(t, s.h2("FOO", strictRoute, good), http.StatusMethodNotAllowed)
	oneOf(t, s.h2("GET", "/api/v1/users/login/..%2f..%2fquery/x", good), http.StatusBadRequest)
	s.query.none(t)

	for name, lines := range forgeries(victim) {
		if strings.Contains(strings.ToLower(name), "connection") || name == "after being listed" {
			continue // no such thing in HTTP/2
		}
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			s.query.forget()
			h := good.Clone()
			for _, line := range lines {
				n, v, _ := strings.Cut(line, ":")
				h[n] = append(h[n], strings.TrimSpace(v))
			}
			s.h2("GET", strictRoute, h).expect(t, accepted)
			r := s.query.only(t)
			want := http.Header{"X-User-Id": {u.id}, "X-Company-Id": {u.company}, "X-User-Email": {u.email}}
			if got := identityOf(r); marshal(t, got) != marshal(t, want) {
				t.Errorf("the upstream got %v, want %v", got, want)
			}
			noTrace(t, r, victim)
		})
	}
}
