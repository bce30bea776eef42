package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func listed(values []string) []string {
	out := strings.Split(strings.ToLower(strings.ReplaceAll(strings.Join(values, ","), " ", "")), ",")
	slices.Sort(out)
	return out
}

func preflight(origin string) http.Header {
	return http.Header{
		"Origin":                         {origin},
		"Access-Control-Request-Method":  {"POST"},
		"Access-Control-Request-Headers": {"authorization,content-type"},
	}
}

// origins of the variant's gate, and whether they may read.
var origins = map[string]bool{
	"https://app.example.com":                        true,
	"http://localhost:5173":                          true,
	"https://atenex-front.vercel.app":                true,
	"https://atenex-front-git-main-team.vercel.app":  true,
	"https://atenex-front-a1b2c3.vercel.app":         true,
	"https://a1b2.ngrok-free.app":                    true,
	"http://localhost:3000":                          false, // a default that was replaced
	"http://app.example.com":                         false,
	"https://app.example.com:8443":                   false,
	"https://app.example.com.evil.example":           false,
	"https://evil-app.example.com":                   false,
	"https://appxexample.com":                        false,
	"https://evil.example":                           false,
	"https://evil.example/https://app.example.com":   false,
	"http://localhost:51730":                         false,
	"http://localhost":                               false,
	"https://atenex-front-.vercel.app.evil.example":  false,
	"https://atenex-front-x.vercel.app.evil.example": false,
	"https://atenex-frontx.vercel.app":               false,
	"https://atenex-front-x_vercel.app":              false,
	"https://atenex-front-xvercel.app":               false,
	"https://atenex-front-x.vercelXapp":              false,
	"https://atenex-front-x.y.vercel.app":            false,
	"https://atenex-front-X.vercel.app":              false,
	"https://atenex-front-x@evil.vercel.app":         false,
	"https://atenex-front-x/.vercel.app":             false,
	"https://evil.example/atenex-front-x.vercel.app": false,
	"https://evil-atenex-front-x.vercel.app":         false,
	"http://atenex-front-x.vercel.app":               false,
	"https://atenex-front-x.vercel.app:444":          false,
	"https://other.vercel.app":                       false,
	"https://vercel.app":                             false,
	"https://b2.ngrok-free.app":                      false,
	"http://a1b2.ngrok-free.app":                     false,
	"null":                                           false,
	"*":                                              false,
	"file://":                                        false,
}

func TestOnlyAllowedOriginsMayRead(t *testing.T) {
	s := sharedVariant(t)
	for origin, allowed := range origins {
		t.Run(quoted(origin), func(t *testing.T) {
			s := s.in(t)
			s.query.forget()
			for name, a := range map[string]answer{
				"preflight": s.do("OPTIONS", "/api/v1/query/ask", preflight(origin), ""),
				"denial":    s.postJSON("/api/v1/query/ask", http.Header{"Origin": {origin}}, "{}"),
				"answer":    s.get("/health", http.Header{"Origin": {origin}}),
			} {
				got := a.header.Values("Access-Control-Allow-Origin")
				if allowed && !slices.Equal(got, []string{origin}) || !allowed && len(got) != 0 {
					t.Errorf("%s: Access-Control-Allow-Origin = %q; allowed: %v", name, got, allowed)
				}
				if credentials := a.header.Get("Access-Control-Allow-Credentials"); allowed && credentials != "true" || !allowed && credentials != "" {
					t.Errorf("%s: Access-Control-Allow-Credentials = %q", name, credentials)
				}
				if name == "preflight" && allowed && (a.status < 200 || a.status > 299) {
					t.Errorf("the preflight got %d", a.status)
				}
			}
			s.query.none(t)
		})
	}
}

func TestAPreflightSaysWhatIsAllowed(t *testing.T) {
	s := sharedVariant(t)
	for _, path := range []string{"/api/v1/query/ask", "/api/v1/users/login", "/api/v1/users/me/ensure-company", "/api/v1/auth/x", "/health"} {
		a := s.do("OPTIONS", path, preflight("https://app.example.com"), "")
		if a.status != http.StatusOK && a.status != http.StatusNoContent {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, PATCH, OPTIONS",
			"Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, Origin, X-Requested-With, ngrok-skip-browser-warning, X-Request-ID",
			"Access-Control-Max-Age":       "600",
		} {
			if got := listed(a.header.Values(name)); !slices.Equal(got, listed([]string{want})) {
				t.Errorf("%s: %s = %q, want %q", path, name, a.header.Values(name), want)
			}
		}
		if got := listed(a.header.Values("Vary")); !slices.Contains(got, "origin") {
			t.Errorf("%s: Vary = %q", path, got)
		}
		if got := a.header.Get("X-Process-Time"); !processTime.MatchString(got) {
			t.Errorf("%s: X-Process-Time = %q", path, got)
		}
	}
	s.auth.none(t)
}

func TestEveryAnswerToAnAllowedOriginCanBeRead(t *testing.T) {
	s := sharedVariant(t)
	const origin = "https://app.example.com"
	for name, a := range everyAnswer(t, s, http.Header{"Origin": {origin}}) {
		if got := a.header.Values("Access-Control-Allow-Origin"); !slices.Equal(got, []string{origin}) {
			t.Errorf("%s: Access-Control-Allow-Origin = %q", name, got)
		}
		if got := a.header.Values("Access-Control-Allow-Credentials"); !slices.Equal(got, []string{"true"}) {
			t.Errorf("%s: Access-Control-Allow-Credentials = %q", name, got)
		}
		if got := listed(a.header.Values("Access-Control-Expose-Headers")); !slices.Equal(got, []string{"x-process-time", "x-request-id"}) {
			t.Errorf("%s: Access-Control-Expose-Headers = %q", name, got)
		}
		variesByOrigin(t, name, a)
	}
	for name, a := range everyAnswer(t, s, http.Header{"Origin": {"https://evil.example"}}) {
		for header := range a.header {
			if strings.HasPrefix(header, "Access-Control-") {
				t.Errorf("to a foreign origin, %s: %s", name, header)
			}
		}
		variesByOrigin(t, name, a)
	}
}

func variesByOrigin(t *testing.T, name string, a answer) {
	t.Helper()
	count := 0
	for _, v := range listed(a.header.Values("Vary")) {
		if v == "origin" {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%s: Vary = %q, want Origin once", name, a.header.Values("Vary"))
	}
}

func TestTheDefaultOriginsAreLocal(t *testing.T) {
	s := shared(t)
	for origin, allowed := range map[string]bool{
		"http://localhost:3000": true, "http://localhost:3009": true,
		"http://localhost:3010": false, "https://localhost:3000": false, "http://127.0.0.1:3000": false, "https://x.vercel.app": false,
	} {
		a := s.get("/health", http.Header{"Origin": {origin}})
		if got := a.header.Get("Access-Control-Allow-Origin") == origin; got != allowed {
			t.Errorf("%s: allowed %v, want %v", origin, got, allowed)
		}
	}
	// 501 is an answer like any other.
	a := s.get("/api/v1/auth/x", http.Header{"Origin": {"http://localhost:3001"}})
	if a.status != http.StatusNotImplemented || a.header.Get("Access-Control-Allow-Origin") != "http://localhost:3001" {
		t.Errorf("501: %d, %v", a.status, a.header)
	}
	// A method that does not exist, asked by a browser.
	s.do("OPTIONS", strictRoute, http.Header{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"GET"}}, "")
	s.query.none(t)
}
