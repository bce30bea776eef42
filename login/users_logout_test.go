package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/login"
)

// ending is a store that admits by what it says of the user, and then ends two
// sessions.
func ending(now identity.Standing, asked *identity.LogoutRequest) store {
	return store{endSessions: func(_ context.Context, request identity.LogoutRequest) (int, error) {
		if err := request.Admit(now); err != nil {
			return 0, err
		}
		*asked = request
		return 2, nil
	}}
}

func asUser(r *http.Request, raw string) *http.Request {
	r.Header.Set("Authorization", "Bearer "+raw)
	return r
}

func TestTheBodyOfLogout(t *testing.T) {
	tests := []struct {
		name   string
		body   string
		status int
		kind   string // of the fault
		reason string // under which sessions are counted
		want   identity.LogoutScope
	}{
		{"no body is the login that asks", "", 204, "", "logout", identity.LogoutLocal},
		{"null is the same", "null", 204, "", "logout", identity.LogoutLocal},
		{"an empty object is the same", "{}", 204, "", "logout", identity.LogoutLocal},
		{"no scope is the same", `{"scope":null}`, 204, "", "logout", identity.LogoutLocal},
		{"unknown members are passed over", `{"all":true}`, 204, "", "logout", identity.LogoutLocal},
		{"local", `{"scope":"local"}`, 204, "", "logout", identity.LogoutLocal},
		{"others", `{"scope":"others"}`, 204, "", "logout_all", identity.LogoutOthers},
		{"global", `{"scope":"global"}`, 204, "", "logout_all", identity.LogoutGlobal},
		{"a scope that does not exist", `{"scope":"everybody"}`, 422, "literal_error", "", 0},
		{"a scope in another case", `{"scope":"Global"}`, 422, "literal_error", "", 0},
		{"an empty scope", `{"scope":""}`, 422, "literal_error", "", 0},
		{"a scope that is no text", `{"scope":1}`, 422, "string_type", "", 0},
		{"two scopes", `{"scope":"local","scope":"global"}`, 422, "json_invalid", "", 0},
		{"a name in another case", `{"Scope":"global"}`, 422, "json_invalid", "", 0},
		{"an array", `["global"]`, 422, "model_attributes_type", "", 0},
		{"no JSON", `scope=global`, 422, "json_invalid", "", 0},
		{"a body that is too large", `{"x":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked identity.LogoutRequest
			g := newStage(t, ending(standing(), &asked))
			grant := nativeGrant()
			grant.Session = session
			w := g.send(asUser(post(logoutPath, tt.body), g.tokenOf(grant)))
			if w.Code != tt.status || tt.kind != "" && !strings.HasPrefix(w.Body.String(), `{"detail":[{"type":"`+tt.kind+`"`) {
				t.Fatalf("got %d %s, want %d %s", w.Code, w.Body, tt.status, tt.kind)
			}
			want, ended := identity.LogoutRequest{}, 0
			if tt.status == http.StatusNoContent {
				want, ended = identity.LogoutRequest{User: ada, Session: session, Scope: tt.want}, 2
			}
			if diff := cmp.Diff(want, asked, cmpopts.IgnoreFields(identity.LogoutRequest{}, "Admit")); diff != "" {
				t.Errorf("asked of the store (-want +got):\n%s", diff)
			}
			if got := g.count("gatehouse_sessions_ended_total", tt.reason); tt.reason != "" && got != ended {
				t.Errorf("%d sessions were counted under %s, want %d", got, tt.reason, ended)
			}
			if got := g.count("gatehouse_sessions_ended_total"); got != ended {
				t.Errorf("%d sessions were counted, want %d", got, ended)
			}
		})
	}
}

// Every endpoint that takes a token judges it by itself, whatever the gate in
// front has said.
func TestWhoIsTakenForAUser(t *testing.T) {
	over := standing()
	over.Session.NotAfter = time.Now().Add(-time.Second)
	endedSession := standing()
	endedSession.Session.Ended = true
	marked := standing()
	marked.TokensValidAfter = time.Now()
	inactive := standing()
	inactive.Active = false
	tests := []struct {
		name   string
		now    identity.Standing
		token  func(g *stage) string // empty: no header
		detail string
	}{
		{"no token", standing(), func(*stage) string { return "" }, "Not authenticated"},
		{"somebody else's signature", standing(), func(*stage) string { return forged(t) }, "Invalid token signature."},
		{"an unknown user", identity.Standing{}, nil, "User associated with token not found."},
		{"an inactive user", inactive, nil, "User associated with token is inactive."},
		{"a session that does not exist", identity.Standing{Exists: true, Active: true}, nil, "Token has been revoked."},
		{"a session that was ended", endedSession, nil, "Token has been revoked."},
		{"a session past its end", over, nil, "Token has been revoked."},
		{"a session from before the mark", marked, nil, "Token has been revoked."},
		{"a token of a replaced gateway after its time", standing(), func(*stage) string { return legacyToken(t) }, "Token has been revoked."},
	}
	requests := map[string]func() *http.Request{
		"logout":   func() *http.Request { return post(logoutPath, "") },
		"password": func() *http.Request { return post(passwordPath, passwordBody(rightWords, "some other words")) },
		"me":       func() *http.Request { return httptest.NewRequest(http.MethodGet, mePath, nil) },
	}
	for _, tt := range tests {
		for name, request := range requests {
			t.Run(tt.name+" at "+name, func(t *testing.T) {
				s := ending(tt.now, new(identity.LogoutRequest))
				s.standing = func(context.Context) (identity.Standing, error) { return tt.now, nil }
				s.profile = func(context.Context) (identity.Profile, error) {
					return identity.Profile{User: adaWith("").User, Standing: tt.now}, nil
				}
				g := newStage(t, s, func(o *login.Options) { o.LegacyTokensUntil = time.Now().Add(-time.Minute) })
				r := request()
				r.Header.Set("X-User-ID", ada.String())
				grant := nativeGrant()
				grant.Session = session
				raw := g.tokenOf(grant)
				if tt.token != nil {
					raw = tt.token(g)
				}
				if raw != "" {
					asUser(r, raw)
				}
				w := g.send(r)
				if w.Code != http.StatusUnauthorized || decodeBody(t, w)["detail"] != tt.detail || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("got %d %s, want %s", w.Code, w.Body, tt.detail)
				}
			})
		}
	}
}

func TestEndingSessionsWhenTheStoreFails(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
	}{
		{"is told to come back where it is down", errors.New("connection refused"), 503},
		{"is refused where the user is gone", identity.ErrNotFound, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			failing := func(context.Context) error { return tt.err }
			s := store{
				endSessions: func(ctx context.Context, _ identity.LogoutRequest) (int, error) { return 0, failing(ctx) },
				standing:    func(context.Context) (identity.Standing, error) { return standing(), nil },
				accountByID: func(ctx context.Context, _ identity.UserID) (identity.Account, error) {
					return identity.Account{}, failing(ctx)
				},
			}
			g := newStage(t, s)
			for _, r := range []*http.Request{post(logoutPath, ""), post(passwordPath, passwordBody(rightWords, "some other words"))} {
				if w := g.send(asUser(r, g.tokenOf(nativeGrant()))); w.Code != tt.status || tt.status == 503 && w.Header().Get("Retry-After") == "" {
					t.Errorf("%s: got %d %s, Retry-After %q", r.URL, w.Code, w.Body, w.Header().Get("Retry-After"))
				}
			}
		})
	}
}
