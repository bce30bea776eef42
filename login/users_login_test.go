package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/token"
	"github.com/atenex/gatehouse/login"
)

const (
	badCredentials = `{"detail":"Incorrect email or password"}`
	unavailable    = `{"detail":"Service is temporarily unavailable."}`
)

func TestAGoodLoginIsAnsweredInFull(t *testing.T) {
	bare := identity.Account{
		User:         identity.User{ID: ada, Email: adaEmail, Active: true},
		PasswordHash: argonOf(t, rightWords),
	}
	tests := []struct {
		name    string
		account identity.Account
		email   string
		want    map[string]any // without access_token
	}{
		{
			"a user with everything", adaWith(argonOf(t, rightWords)), adaEmail,
			map[string]any{
				"token_type": "bearer", "expires_in": 86400.0, "user_id": ada.String(), "email": adaEmail,
				"full_name": "Ada Lovelace", "role": "admin", "company_id": acme.String(),
			},
		},
		{
			"a user with nothing but an address", bare, adaEmail,
			map[string]any{
				"token_type": "bearer", "expires_in": 86400.0, "user_id": ada.String(), "email": adaEmail,
				"full_name": nil, "role": "user", "company_id": nil,
			},
		},
		{
			"the address as it is stored, not as it was typed", bare, "ADA@Example.com",
			map[string]any{
				"token_type": "bearer", "expires_in": 86400.0, "user_id": ada.String(), "email": adaEmail,
				"full_name": nil, "role": "user", "company_id": nil,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// A fresh second, so that nothing is lost to whole seconds.
			now := time.Unix(1_800_000_000, 0)
			s := holding(tt.account)
			var asked []identity.LoginRequest
			s.startSession = func(_ context.Context, request identity.LoginRequest) (identity.Login, error) {
				asked = append(asked, request)
				return begun(tt.account.User, now), nil
			}
			g := newStage(t, s, func(o *login.Options) { o.Now = func() time.Time { return now } })
			r := credentials(tt.email, rightWords)
			r.Header.Set("User-Agent", "a browser")
			w := g.send(r)
			if w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			got := decodeBody(t, w)
			raw, _ := got["access_token"].(string)
			delete(got, "access_token")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			c, err := g.verifier.Verify(raw, now)
			if err != nil {
				t.Fatal(err)
			}
			want := identity.Credential{
				User: ada, Company: tt.account.Company, Email: adaEmail,
				Session: session, HasSession: true,
				IssuedAt: now, ExpiresAt: now.Add(24 * time.Hour), KeyNamed: true,
			}
			if diff := cmp.Diff(want, c); diff != "" {
				t.Errorf("token (-want +got):\n%s", diff)
			}
			wantAsked := []identity.LoginRequest{{
				User: ada, PasswordHash: tt.account.PasswordHash, Lifetime: 720 * time.Hour,
				Client: identity.Client{Address: netip.MustParseAddr("192.0.2.1"), UserAgent: "a browser"},
			}}
			if diff := cmp.Diff(wantAsked, asked, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("asked of the store (-want +got):\n%s", diff)
			}
			if n := g.count("gatehouse_login_attempts_total", "success"); n != 1 {
				t.Errorf("%d successes were counted", n)
			}
		})
	}
}

// Every way to fail must look the same: the same answer, one hash computed, no
// earlier than the floor, which is what makes the time the same.
//
// D17: the challenge is a bare Bearer here too.
func TestEveryWrongLoginLooksTheSame(t *testing.T) {
	inactive := adaWith(argonOf(t, rightWords))
	inactive.Active = false
	long := strings.Repeat("a", 80)
	tests := []struct {
		name    string
		account identity.Account
		email   string
		words   string
	}{
		{"an unknown address", adaWith(argonOf(t, rightWords)), nobodyEmail, rightWords},
		{"a wrong password on argon2id", adaWith(argonOf(t, rightWords)), adaEmail, wrongWords},
		{"a wrong password on bcrypt", adaWith(bcryptOf(t, rightWords)), adaEmail, wrongWords},
		{"an inactive user with the right password", inactive, adaEmail, rightWords},
		{"an inactive user with a wrong password", inactive, adaEmail, wrongWords},
		{"no password set", adaWith(""), adaEmail, rightWords},
		{"a hash that is garbage", adaWith("!locked"), adaEmail, "!locked"},
		{"bcrypt 2x", adaWith(bcryptOld), adaEmail, rightWords},
		{"bcrypt of an absurd cost", adaWith(bcryptDear), adaEmail, rightWords},
		{"argon2id of absurd memory", adaWith("$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"), adaEmail, rightWords},
		{"more than 72 bytes on bcrypt", adaWith(bcryptOf(t, long[:72])), adaEmail, long},
		{"another case", adaWith(argonOf(t, rightWords)), adaEmail, "The right words"},
		{"a space behind it", adaWith(argonOf(t, rightWords)), adaEmail, rightWords + " "},
		{"another normalisation", adaWith(argonOf(t, "caf\u00e9 words")), adaEmail, "cafe\u0301 words"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, holding(tt.account))
				floor := g.passwords.Floor()
				start := time.Now()
				w := g.send(credentials(tt.email, tt.words))
				took := time.Since(start)

				if w.Code != http.StatusUnauthorized || w.Body.String() != badCredentials || w.Header().Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("got %d %s, WWW-Authenticate %q", w.Code, w.Body, w.Header().Get("WWW-Authenticate"))
				}
				if n := g.count("gatehouse_login_hash_seconds"); n != 1 {
					t.Errorf("%d hashes were computed, want 1", n)
				}
				// Time stands still while anything is computed, so that this is the
				// waiting alone.
				if took < floor || took > floor+50*time.Millisecond {
					t.Errorf("answered after %v, want within %v and 50 ms more", took, floor)
				}
				if n := g.count("gatehouse_login_attempts_total", "bad_credentials"); n != 1 {
					t.Errorf("%d bad credentials were counted", n)
				}
			})
		})
	}
}

func TestWaitingOutTheFloorHoldsNoPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newStageWith(t, holding(adaWith("")), password.Options{Processors: 1})
		limit := g.passwords.Floor() + 50*time.Millisecond
		start := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if w := g.send(credentials(adaEmail, wrongWords)); w.Code != http.StatusUnauthorized {
					t.Errorf("status %d", w.Code)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took > limit {
			t.Errorf("ten refusals over one permit took %v, want %v: they wait side by side", took, limit)
		}
	})
}

func TestLoginWhenAPartFails(t *testing.T) {
	broken := errors.New("connection refused")
	good := adaWith(argonOf(t, rightWords))
	old := adaWith(bcryptOf(t, rightWords))
	otherHash := argonOf(t, wrongWords)
	tests := []struct {
		name    string
		account identity.Account
		change  func(*store)
		set     set
		status  int
		body    string // empty: a good answer
		retry   string
		result  string
	}{
		{
			"the store cannot be read", good,
			func(s *store) {
				s.accountByEmail = func(context.Context, string) (identity.Account, error) { return identity.Account{}, broken }
			},
			nil, 503, unavailable, "1", "error",
		},
		{
			"the store does not answer", good,
			func(s *store) {
				s.accountByEmail = func(ctx context.Context, _ string) (identity.Account, error) {
					<-ctx.Done()
					return identity.Account{}, ctx.Err()
				}
			},
			nil, 503, unavailable, "1", "error",
		},
		{
			"a login that cannot be recorded does not happen", good,
			func(s *store) {
				s.startSession = func(context.Context, identity.LoginRequest) (identity.Login, error) { return identity.Login{}, broken }
			},
			nil, 503, unavailable, "1", "error",
		},
		{
			"a user deleted meanwhile is unknown", good,
			func(s *store) {
				changing(s, identity.Account{})
			},
			nil, 401, badCredentials, "", "bad_credentials",
		},
		{
			"a password changed meanwhile lets nobody in", good,
			func(s *store) { changing(s, adaWith(otherHash)) },
			nil, 401, badCredentials, "", "bad_credentials",
		},
		{
			"another hash of the same password meanwhile is proved anew", old,
			func(s *store) { changing(s, good) },
			nil, 200, "", "", "success",
		},
		{
			"an account that never holds still", good,
			func(s *store) {
				s.startSession = func(context.Context, identity.LoginRequest) (identity.Login, error) {
					return identity.Login{}, identity.ErrChanged
				}
			},
			nil, 503, unavailable, "1", "error",
		},
		{
			"an upgrade that fails is only logged", old,
			func(s *store) {
				s.replaceHash = func(context.Context, identity.UserID, string, string) (bool, error) { return false, broken }
			},
			nil, 200, "", "", "success",
		},
		{
			"an upgrade that comes too late is dropped", old,
			func(s *store) {
				s.replaceHash = func(context.Context, identity.UserID, string, string) (bool, error) { return false, nil }
			},
			nil, 200, "", "", "success",
		},
		{
			"an upgrade that hangs is given up", old,
			func(s *store) {
				s.replaceHash = func(ctx context.Context, _ identity.UserID, _, _ string) (bool, error) {
					<-ctx.Done()
					return false, ctx.Err()
				}
			},
			nil, 200, "", "", "success",
		},
		{
			"no token can be made", good, func(*store) {},
			func(o *login.Options) {
				o.Issuer = issuer(func() (token.Minted, error) { return token.Minted{}, broken })
			},
			500, `{"detail":"Internal Server Error"}`, "", "error",
		},
		{
			"a part panics", good, func(*store) {},
			func(o *login.Options) {
				o.Issuer = issuer(func() (token.Minted, error) { panic("about " + rightWords) })
			},
			500, `{"detail":"Internal Server Error"}`, "", "error",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := holding(tt.account)
				tt.change(&s)
				var changes []set
				if tt.set != nil {
					changes = append(changes, tt.set)
				}
				g := newStageWith(t, s, password.Options{Upgrade: true, Processors: 1}, changes...)
				start := time.Now()
				w := g.send(credentials(adaEmail, rightWords))
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				if w.Code != tt.status || tt.body != "" && w.Body.String() != tt.body || w.Header().Get("Retry-After") != tt.retry {
					t.Errorf("got %d %s, Retry-After %q", w.Code, w.Body, w.Header().Get("Retry-After"))
				}
				if n := g.count("gatehouse_login_attempts_total", tt.result); n != 1 {
					t.Errorf("%s was counted %d times", tt.result, n)
				}
				if strings.Contains(g.log.String(), rightWords) {
					t.Errorf("the log holds the password: %s", g.log)
				}
				// Whatever happened, the permit is free again.
				if _, err := g.passwords.Admit(t.Context()); err != nil {
					t.Errorf("the permit was lost: %v", err)
				}
			})
		})
	}
}

// changing makes a store whose account becomes another one (the zero one: nobody)
// between the moment in which it is read and the first session.
func changing(s *store, next identity.Account) {
	find, start := s.accountByEmail, s.startSession
	changed := false
	s.accountByEmail = func(ctx context.Context, email string) (identity.Account, error) {
		switch {
		case !changed:
			return find(ctx, email)
		case next.ID.IsZero():
			return identity.Account{}, identity.ErrNotFound
		}
		return next, nil
	}
	s.startSession = func(ctx context.Context, request identity.LoginRequest) (identity.Login, error) {
		if changed && request.PasswordHash == next.PasswordHash {
			return start(ctx, request)
		}
		changed = true
		return identity.Login{}, identity.ErrChanged
	}
}

type issuer func() (token.Minted, error)

func (f issuer) Issue(token.Grant, time.Time) (token.Minted, error) { return f() }

func TestAPanicIsLoggedOnceWithItsPlace(t *testing.T) {
	var none map[string]string
	g := newStage(t, holding(adaWith(argonOf(t, rightWords))), func(o *login.Options) {
		o.Issuer = issuer(func() (token.Minted, error) { none["x"] = rightWords; return token.Minted{}, nil })
	})
	if w := g.send(credentials(adaEmail, rightWords)); w.Code != http.StatusInternalServerError {
		t.Fatalf("status %d", w.Code)
	}
	lines := g.lines()
	if len(lines) != 1 {
		t.Fatalf("%d log lines, want 1: %s", len(lines), g.log)
	}
	text, _ := lines[0]["error"].(string)
	if lines[0]["level"] != "ERROR" || !strings.Contains(text, "assignment to entry in nil map") || !strings.Contains(text, "users_login_test.go") {
		t.Errorf("the line does not tell what happened where: %v", lines[0])
	}
}

func TestTooManyLoginsAtOnceAreToldToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := holding(adaWith(argonOf(t, rightWords)))
		s.accountByEmail = nil // not asked while there is no permit
		g := newStageWith(t, s, password.Options{Processors: 1})
		if _, err := g.passwords.Admit(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		w := g.send(credentials(adaEmail, rightWords))
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("refused after %v, want 2 s", took)
		}
		retry, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if w.Code != http.StatusServiceUnavailable || w.Body.String() != unavailable || err != nil || retry < 1 || retry > 3 {
			t.Errorf("got %d %s, Retry-After %q", w.Code, w.Body, w.Header().Get("Retry-After"))
		}
		if n := g.count("gatehouse_login_attempts_total", "overloaded"); n != 1 {
			t.Errorf("overloaded was counted %d times", n)
		}
	})
}

func TestAnOldHashIsReplacedByOneOfTheSamePassword(t *testing.T) {
	old := bcryptOf(t, rightWords)
	inactive := adaWith(old)
	inactive.Active = false
	tests := []struct {
		name    string
		account identity.Account
		words   string
		options password.Options
		want    bool // whether it is replaced
	}{
		{"after a good login", adaWith(old), rightWords, password.Options{Upgrade: true}, true},
		{"not where upgrades are off", adaWith(old), rightWords, password.Options{}, false},
		{"not after a bad login", adaWith(old), wrongWords, password.Options{Upgrade: true}, false},
		{"not of an inactive user", inactive, rightWords, password.Options{Upgrade: true}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := holding(tt.account)
				client, hangUp := context.WithCancel(t.Context())
				recorded := false
				start := s.startSession
				s.startSession = func(ctx context.Context, request identity.LoginRequest) (identity.Login, error) {
					recorded = true
					hangUp() // the client is gone before the hash is written
					return start(ctx, request)
				}
				var from, to string
				s.replaceHash = func(ctx context.Context, id identity.UserID, oldHash, newHash string) (bool, error) {
					if ctx.Err() != nil || id != ada || !recorded {
						t.Errorf("replacing: context %v, user %v, login recorded before: %v", ctx.Err(), id, recorded)
					}
					from, to = oldHash, newHash
					return true, nil
				}
				g := newStageWith(t, s, tt.options)
				g.send(credentials(adaEmail, tt.words).WithContext(client))
				if !tt.want {
					if to != "" {
						t.Errorf("replaced by %q", to)
					}
					return
				}
				if from != old || !strings.HasPrefix(to, "$argon2id$") {
					t.Fatalf("replaced %q by %q", from, to)
				}
				permit, err := g.passwords.Admit(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got := permit.Verify(to, rightWords); got != (password.Match{OK: true}) {
					t.Errorf("the new hash gives %+v", got)
				}
			})
		})
	}
}

func TestAClientThatHangsUp(t *testing.T) {
	tests := []struct {
		name   string
		words  string
		when   string
		result string // empty: none is counted
	}{
		{"before its account was read is not counted", wrongWords, "lookup", ""},
		{"while its refusal is due is counted all the same", wrongWords, "floor", "bad_credentials"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := holding(adaWith(argonOf(t, rightWords)))
				find := s.accountByEmail
				client, hangUp := context.WithCancel(t.Context())
				s.accountByEmail = func(ctx context.Context, email string) (identity.Account, error) {
					hangUp()
					if tt.when == "lookup" {
						<-ctx.Done()
						return identity.Account{}, ctx.Err()
					}
					return find(ctx, email)
				}
				g := newStage(t, s)
				start := time.Now()
				g.send(credentials(adaEmail, tt.words).WithContext(client))
				if took := time.Since(start); took != 0 {
					t.Errorf("waited %v for nobody", took)
				}
				total := g.count("gatehouse_login_attempts_total")
				if tt.result == "" && total != 0 || tt.result != "" && g.count("gatehouse_login_attempts_total", tt.result) != 1 {
					t.Errorf("%d attempts were counted, want %q", total, tt.result)
				}
			})
		})
	}
}
