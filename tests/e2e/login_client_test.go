package e2e

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// direct sends a request to the login service itself, past the gate.
func (s *stack) direct(method, path string, header http.Header, body string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.login+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
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

func credentials(email, password string) string {
	b, _ := json.Marshal(map[string]string{"email": email, "password": password})
	return string(b)
}

// tryLogin is a login through the gate.
func (s *stack) tryLogin(email, password string) answer {
	s.t.Helper()
	return s.postJSON("/api/v1/users/login", nil, credentials(email, password))
}

// judged is a login for which the service has found the time: with too much to do, it
// tells clients to come again.
func (s *stack) judged(email, password string) answer {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(200 * time.Millisecond) {
		a := s.tryLogin(email, password)
		if a.status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return a
		}
	}
}

// logIn returns the token of a login that must succeed.
func (s *stack) logIn(u user) string {
	s.t.Helper()
	a := s.judged(u.email, u.password)
	if err := a.is(http.StatusOK); err != nil {
		s.t.Fatalf("logging in: %v", err)
	}
	return a.field(s.t, "access_token")
}

// field is a text member of the answer.
func (a answer) field(t testing.TB, name string) string {
	t.Helper()
	v, ok := a.object(t)[name].(string)
	if !ok {
		t.Fatalf("no %s in %s", name, a.body)
	}
	return v
}

func (a answer) object(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return m
}

// payloadOf reads a token without judging it.
func payloadOf(t testing.TB, raw string) map[string]any {
	t.Helper()
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
