package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atenex/gatehouse/login"
)

func TestWhatIsServedWhere(t *testing.T) {
	const (
		notFound   = `{"detail":"Not Found"}`
		notAllowed = `{"detail":"Method Not Allowed"}`
	)
	tests := []struct {
		method string
		target string
		status int
		body   string
		allow  string
	}{
		{"GET", "/", 200, `{"message":"Gatehouse is running!"}`, ""},
		{"GET", "/?x=1", 200, `{"message":"Gatehouse is running!"}`, ""},
		{"GET", "/health", 200, `{"status":"healthy","service":"Gatehouse","checks":{"database_connection":"ok"}}`, ""},
		{"HEAD", "/", 405, notAllowed, "GET"},
		{"POST", "/", 405, notAllowed, "GET"},
		{"HEAD", "/health", 405, notAllowed, "GET"},
		{"DELETE", "/health", 405, notAllowed, "GET"},
		{"GET", loginPath, 405, notAllowed, "POST"},
		{"PUT", loginPath, 405, notAllowed, "POST"},
		{"OPTIONS", loginPath, 405, notAllowed, "POST"},
		{"post", loginPath, 405, notAllowed, "POST"},
		{"GET", ensurePath, 405, notAllowed, "POST"},
		{"POST", loginPath + "/", 404, notFound, ""},
		{"POST", "//api/v1/users/login", 404, notFound, ""},
		{"POST", "/api/v1/users/../users/login", 404, notFound, ""},
		{"POST", "/api/v1/users/Login", 404, notFound, ""},
		{"GET", "/health/", 404, notFound, ""},
		{"GET", "/metrics", 404, notFound, ""},
		{"GET", logoutPath, 405, notAllowed, "POST"},
		{"GET", passwordPath, 405, notAllowed, "POST"},
		{"POST", mePath, 405, notAllowed, "GET"},
		{"GET", mePath + "/", 404, notFound, ""},
		{"POST", registerPath, 403, `{"detail":"Registration is disabled."}`, ""},
		{"GET", registerPath, 405, notAllowed, "POST"},
		{"POST", registerPath + "/", 404, notFound, ""},
		{"GET", "/.well-known/jwks.json", 200, `{"keys":[]}`, ""},
		{"HEAD", "/.well-known/jwks.json", 405, notAllowed, "GET"},
		{"GET", "/.well-known/jwks.json/", 404, notFound, ""},
		{"BREW", "/coffee", 404, notFound, ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			g := newStage(t, store{ping: func(context.Context) error { return nil }})
			w := g.send(httptest.NewRequest(tt.method, tt.target, nil))
			if w.Code != tt.status || w.Body.String() != tt.body || w.Header().Get("Allow") != tt.allow {
				t.Errorf("got %d %s, Allow %q", w.Code, w.Body, w.Header().Get("Allow"))
			}
		})
	}
}

func TestHealthWithoutADatabase(t *testing.T) {
	const down = `{"status":"unhealthy","service":"Gatehouse","checks":{"database_connection":"failed"}}`
	tests := []struct {
		name string
		ping func(ctx context.Context) error
		want time.Duration
	}{
		{"is told at once where the database refuses", func(context.Context) error { return errors.New("connection refused") }, 0},
		{"is told after a second where it says nothing", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, store{ping: tt.ping})
				start := time.Now()
				w := g.send(httptest.NewRequest(http.MethodGet, "/health", nil))
				if took := time.Since(start); took != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				if w.Code != http.StatusServiceUnavailable || w.Body.String() != down {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
				lines := g.lines()
				if len(lines) != 1 || lines[0]["level"] != "ERROR" || lines[0]["error"] == nil {
					t.Errorf("want one line with the cause: %s", g.log)
				}
			})
		})
	}
}

func TestACrowdAtHealthPingsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pings atomic.Int32
		g := newStage(t, store{ping: func(ctx context.Context) error {
			pings.Add(1)
			select {
			case <-time.After(time.Millisecond): // on the bubble's clock
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		first, hangUp := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ask := func(ctx context.Context) {
			r := httptest.NewRequest(http.MethodGet, "/health", nil).WithContext(ctx)
			all.Go(func() {
				if w := g.send(r); w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
			})
			synctest.Wait()
		}
		ask(first)
		for range 49 {
			ask(t.Context())
		}
		hangUp() // of which the others must not hear
		all.Wait()
		if n := pings.Load(); n != 1 {
			t.Errorf("%d pings, want 1", n)
		}
	})
}

func TestAServiceIsNotMadeOfHalfItsParts(t *testing.T) {
	if _, err := login.New(login.Options{}); err == nil {
		t.Error("was made")
	}
}
