package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// twin is a second gate on the same database and with the same files: another authz
// and another login, which read a changed key set when they come to it, behind an
// Envoy of their own.
func (s *stack) twin() *stack {
	s.t.Helper()
	other := *s
	other.settings = maps.Clone(s.settings)
	for _, name := range []string{
		"GATEWAY_LISTEN", "GATEWAY_ENVOY_ADMIN_LISTEN", "GATEWAY_AUTHZ_LISTEN", "GATEWAY_AUTHZ_OPS_LISTEN", "GATEWAY_LOGIN_LISTEN", "GATEWAY_LOGIN_OPS_LISTEN",
	} {
		other.settings[name] = freeAddress(s.t)
	}
	other.address = other.settings["GATEWAY_LISTEN"]
	other.gateway = "http://" + other.address
	other.authzOps = "http://" + other.settings["GATEWAY_AUTHZ_OPS_LISTEN"]
	other.login, other.loginOps = "http://"+other.settings["GATEWAY_LOGIN_LISTEN"], "http://"+other.settings["GATEWAY_LOGIN_OPS_LISTEN"]
	other.authzLog, other.loginLog, other.envoyLog = &record{}, &record{}, &record{}
	other.startAuthz()
	other.startLogin()
	other.startEnvoy()
	eventually(s.t, "the second gate answers from authz", func() error {
		return other.postJSON("/api/v1/query/ask", nil, "{}").is(http.StatusUnauthorized)
	})
	return &other
}

// commuters log in at one gate and use the token at the other at once, and go on
// using it at both. No good token may be refused.
type commuters struct {
	gates   [2]*stack
	user    user
	stop    chan struct{}
	running sync.WaitGroup

	checks, logins atomic.Int64

	mu      sync.Mutex
	tokens  []string
	refused []string
	signed  map[string]int // logins by the key
}

func (s *stack) startCommuters(other *stack, u user) *commuters {
	l := &commuters{gates: [2]*stack{s, other}, user: u, stop: make(chan struct{}), signed: map[string]int{}}
	for worker := range 4 {
		l.running.Go(func() {
			for n := worker; ; n++ {
				select {
				case <-l.stop:
					return
				default:
					l.turn(n)
				}
			}
		})
	}
	return l
}

func (l *commuters) turn(n int) {
	if n%4 == 0 {
		a := l.gates[n/4%2].tryLogin(l.user.email, l.user.password)
		if a.status != http.StatusOK {
			return // a busy machine; no token is refused by it
		}
		raw := a.field(l.gates[0].t, "access_token")
		l.logins.Add(1)
		l.mu.Lock()
		l.signed[kidOf(raw)]++
		if len(l.tokens) < 40 {
			l.tokens = append(l.tokens, raw)
		} else {
			// The oldest stay: they are the ones that a rotation could hurt.
			l.tokens[20+n%20] = raw
		}
		l.mu.Unlock()
		l.check(l.gates[(n/4+1)%2], raw)
	}
	l.mu.Lock()
	var raw string
	if len(l.tokens) > 0 {
		raw = l.tokens[n%len(l.tokens)]
	}
	l.mu.Unlock()
	if raw != "" {
		l.check(l.gates[n%2], raw)
	}
}

func (l *commuters) check(at *stack, raw string) {
	l.checks.Add(1)
	for _, a := range []answer{at.get(strictRoute, bearer(raw)), at.direct(http.MethodGet, "/api/v1/users/me", bearer(raw), "")} {
		if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
			l.mu.Lock()
			l.refused = append(l.refused, fmt.Sprintf("signed with %s: %d %s", kidOf(raw), a.status, a.body))
			l.mu.Unlock()
		}
	}
}

// more waits until so many more tokens were used and a few more were made.
func (l *commuters) more(t *testing.T) {
	t.Helper()
	checks, logins := l.checks.Load()+60, l.logins.Load()+4
	within(t, time.Minute, "they go on", func() error {
		if c, g := l.checks.Load(), l.logins.Load(); c < checks || g < logins {
			return fmt.Errorf("%d of %d checks, %d of %d logins", c, checks, g, logins)
		}
		return nil
	})
}

// The documented steps, while people log in at either of two logins and use what they
// got at either of two authz: whoever has read the new set first, none of them refuses
// a token of the other.
func TestARotationRefusesNoTokenOfAnotherReplica(t *testing.T) {
	t.Parallel()
	s, path := startWithKeys(t, map[string]string{"GATEWAY_PASSWORD_UPGRADE": "false"})
	other := s.twin()
	u := s.withPassword(s.newMember())
	old := s.logIn(u)
	l := s.startCommuters(other, u)
	ended := sync.OnceFunc(func() {
		close(l.stop)
		l.running.Wait()
	})
	t.Cleanup(ended)
	everywhere := func(times int) {
		t.Helper()
		s.reloaded(times)
		other.reloaded(times)
	}

	l.more(t)
	s.command("key", "rotate", "add", "--file", path, "--alg", "EdDSA", "--kid", "second", "--apply")
	everywhere(1) // which the manual waits ten minutes for
	l.more(t)
	s.command("key", "rotate", "promote", "second", "--file", path, "--apply")
	l.more(t) // some sign with the new key already, some with the old one
	everywhere(2)
	l.more(t)
	for _, gate := range l.gates {
		if raw := gate.logIn(u); kidOf(raw) != "second" {
			t.Errorf("a login is signed with %q", kidOf(raw))
		}
		gate.in(t).get(strictRoute, bearer(old)).expect(t, accepted)
	}
	ended()
	if len(l.refused) > 0 {
		t.Errorf("%d refusals of good tokens in %d checks, the first: %s", len(l.refused), l.checks.Load(), l.refused[0])
	}
	if l.signed["first"] == 0 || l.signed["second"] == 0 {
		t.Errorf("logins by key: %v", l.signed)
	}
}
