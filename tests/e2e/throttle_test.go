package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const throttled = "Too many requests."

// at is a request from somebody else, as far as the gate can know: whoever asks
// from this machine is trusted to say for whom.
func at(source string) http.Header { return http.Header{"X-Forwarded-For": {source}} }

// guess is a login from a source.
func (s *stack) guess(source, email, password string) answer {
	s.t.Helper()
	return s.postJSON("/api/v1/users/login", at(source), credentials(email, password))
}

// secondLogin is another login service on the same database, and the stack as
// seen through it: past Envoy, which knows of one.
func (s *stack) secondLogin() *stack {
	s.t.Helper()
	other := *s
	other.settings = maps.Clone(s.settings)
	other.settings["GATEWAY_LOGIN_LISTEN"], other.settings["GATEWAY_LOGIN_OPS_LISTEN"] = freeAddress(s.t), freeAddress(s.t)
	other.login, other.loginOps = "http://"+other.settings["GATEWAY_LOGIN_LISTEN"], "http://"+other.settings["GATEWAY_LOGIN_OPS_LISTEN"]
	other.loginProcess = other.start("login", filepath.Join(binaries, "login"), []string{"--drain=0s"}, s.loginLog)
	other.await("the second login", other.loginOps+"/readyz")
	return &other
}

// With the throttle as it is where nobody says otherwise.
func TestGuessingIsThrottled(t *testing.T) {
	t.Parallel()
	// No upgrade: ten argon2id hashes at once are more than a busy machine does in the
	// time that a login may wait.
	s := startStack(t, map[string]string{"GATEWAY_LOGIN_THROTTLE": "", "GATEWAY_PASSWORD_UPGRADE": "false"})
	other := s.secondLogin()

	t.Run("twenty logins of one source pass, and then ten a minute", func(t *testing.T) {
		s, u := s.in(t), s.withPassword(s.newMember())
		began := time.Now()
		for i := range 20 {
			if err := s.guess("198.51.100.1", u.email, u.password).is(http.StatusOK); err != nil {
				t.Fatalf("login %d: %v", i+1, err)
			}
		}
		h := at("198.51.100.1")
		h.Set("Origin", "http://localhost:3000")
		a := s.postJSON("/api/v1/users/login", h, credentials(u.email, u.password))
		// One more for each six seconds that they took.
		for more := 0; a.status == http.StatusOK && more < int(time.Since(began)/(6*time.Second)); more++ {
			a = s.postJSON("/api/v1/users/login", h, credentials(u.email, u.password))
		}
		a.want(t, http.StatusTooManyRequests, throttled)
		if wait := a.header.Get("Retry-After"); len(wait) != 1 || wait < "1" || wait > "6" {
			t.Errorf("Retry-After = %q, want six seconds at most", wait)
		}
		if a.header.Get("Access-Control-Allow-Origin") == "" {
			t.Error("no CORS headers")
		}
	})

	t.Run("of 200 wrong guesses at once twenty are judged at most, by both services together", func(t *testing.T) {
		u := s.withPassword(s.newMember())
		began := time.Now()
		var mu sync.Mutex
		got := map[int]int{}
		var all sync.WaitGroup
		for i := range 200 {
			to := s.in(t)
			if i%2 == 1 {
				to = other.in(t)
			}
			all.Go(func() {
				a := to.direct("POST", "/api/v1/users/login", at("198.51.100.2"), credentials(u.email, "test-password-that-is-wrong"))
				mu.Lock()
				defer mu.Unlock()
				got[a.status]++
			})
		}
		all.Wait()
		most := 20 + int(time.Since(began)/(6*time.Second))
		if n := got[http.StatusUnauthorized]; n < 6 || n > most || got[http.StatusTooManyRequests] != 200-n {
			t.Errorf("the answers are %v", got)
		}
	})

	t.Run("ten right passwords at once all pass, at either service", func(t *testing.T) {
		u := s.withPassword(s.newMember())
		var all sync.WaitGroup
		for i := range 10 {
			to := s.in(t)
			if i%2 == 1 {
				to = other.in(t)
			}
			all.Go(func() {
				if err := to.direct("POST", "/api/v1/users/login", at("198.51.100.3"), credentials(u.email, u.password)).is(http.StatusOK); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// A botnet guesses at one account: it is refused, and whoever is at home is not.
func TestAVictimLogsInDuringAnAttack(t *testing.T) {
	t.Parallel()
	s := startStack(t, map[string]string{"GATEWAY_LOGIN_THROTTLE": "on", "GATEWAY_PASSWORD_UPGRADE": "false", "GATEWAY_LOGIN_ACCOUNT_FAILURES": "10 in 24h", "GATEWAY_LOGIN_WAIT": "60s"})
	u := s.withPassword(s.newMember())
	home := s.guess("198.51.100.7", u.email, u.password)
	if err := home.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		a := s.guess(fmt.Sprintf("203.0.113.%d", i+1), u.email, "test-password-that-is-wrong")
		if want := http.StatusUnauthorized; i < 10 && a.status != want {
			t.Fatalf("guess %d: %d %s", i+1, a.status, a.body)
		}
		if i >= 10 {
			a.want(t, http.StatusTooManyRequests, throttled)
		}
	}
	s.guess("203.0.113.99", u.email, u.password).want(t, http.StatusTooManyRequests, throttled)
	if err := s.guess("198.51.100.200", u.email, u.password).is(http.StatusOK); err != nil {
		t.Errorf("from the network at home: %v", err)
	}
	if err := s.postJSON("/api/v1/query/ask", bearer(home.field(t, "access_token")), "{}").is(http.StatusOK); err != nil {
		t.Errorf("with a token from before: %v", err)
	}
	if out := s.command("user", "unlock", u.email); !strings.HasSuffix(out, "unlocked\n") {
		t.Errorf("user unlock says %q", out)
	}
	if err := s.guess("203.0.113.99", u.email, u.password).is(http.StatusOK); err != nil {
		t.Errorf("after it was unlocked: %v", err)
	}
	for i, email := range []string{u.email, "nobody-at-all@example.com"} {
		source := fmt.Sprintf("203.0.113.%d", 200+i)
		began := time.Now()
		for range 6 {
			s.guess(source, email, "test-password-that-is-wrong").want(t, http.StatusUnauthorized, "Incorrect email or password")
		}
		a := s.guess(source, email, u.password)
		a.want(t, http.StatusTooManyRequests, throttled)
		got := a.header.Get("Retry-After")
		if wait, err := strconv.Atoi(got); err != nil || wait > 61 || wait < 60-int(time.Since(began).Seconds())-1 {
			t.Errorf("%s: Retry-After = %q, want a minute", email, got)
		}
	}
	// Without the database nobody is let in unjudged.
	s.sql(`ALTER TABLE login_throttle RENAME TO elsewhere`)
	s.guess("198.51.100.7", u.email, u.password).want(t, http.StatusServiceUnavailable, "Service is temporarily unavailable.")
	s.sql(`ALTER TABLE elsewhere RENAME TO login_throttle`)
	eventually(t, "logins work again", func() error {
		<-time.After(100 * time.Millisecond)
		return s.guess("198.51.100.7", u.email, u.password).is(http.StatusOK)
	})
}
