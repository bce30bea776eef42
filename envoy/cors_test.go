package envoy_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

func corsGate(t *testing.T) *gate {
	return newGate(t, options{settings: func(s *envoy.Settings) {
		s.VercelFrontendURL = "https://atenex-web.vercel.app/"
		s.NgrokURL = "https://abc.ngrok-free.app"
		s.CORSOrigins = append(s.CORSOrigins, "https://Partner.example:443", "http://plain.example:8080")
		s.LoginRate = routes.Rate{Requests: 1, Per: time.Hour, Burst: 1}
	}})
}

var (
	allowedOrigins = []string{
		"http://localhost:3000", "http://localhost:3009", "https://atenex-web.vercel.app", "https://abc.ngrok-free.app",
		"https://partner.example", "http://plain.example:8080",
		"https://atenex-web-git-main-team.vercel.app", "https://atenex-web-1.vercel.app",
	}
	foreignOrigins = []string{
		"http://localhost:3010", "https://localhost:3000", "http://localhost", "http://localhost:3000.evil.example",
		"http://localhost:30000", "http://xlocalhost:3000", "https://evil.example", "null", "https://atenex-web.vercel.app.evil.example",
		"https://evil-atenex-web.vercel.app", "https://atenex-web-.evil.vercel.app", "https://atenex-web-x.vercelXapp",
		"https://atenex-web-x.vercel.app:444", "http://atenex-web-x.vercel.app", "https://atenex-web-X.vercel.app",
		"https://atenex-web-a.b.vercel.app", "https://atenexXweb.vercel.app", "https://atenex-web-.vercel.app/x",
		"https://partner.example:443", "http://partner.example", "https://def.ngrok-free.app", "HTTP://LOCALHOST:3000",
	}
)

func TestOnlyAllowedOriginsAreTold(t *testing.T) {
	t.Parallel()
	g := corsGate(t)
	g.do(t, "POST", "/api/v1/users/login") // empties the bucket of this client
	for _, answers := range []struct {
		name, method, path, token string
		status                    int
	}{
		{"an upstream's answer", "GET", "/api/v1/ingest/do/headers", "allow", 200},
		{"an upstream's error", "GET", "/api/v1/ingest/do/500", "allow", 500},
		{"a 401", "GET", "/api/v1/ingest/x", "none", 401},
		{"a 403", "GET", "/api/v1/ingest/x", "forbidden", 403},
		{"a 404", "GET", "/nowhere", "none", 404},
		{"a 405", "GET", "/api/v1/users/login", "none", 405},
		{"a 429", "POST", "/api/v1/users/login", "none", 429},
		{"a 500 of authz", "GET", "/api/v1/ingest/x", "internal", 500},
		{"a 502", "GET", "/api/v1/ingest/do/reset", "allow", 502},
		{"a 503 of authz", "GET", "/api/v1/ingest/x", "unavailable", 503},
		{"a 503 for want of a mark", "GET", "/api/v1/ingest/x", "empty", 503},
		{"an open route", "GET", "/health", "none", 200},
	} {
		t.Run(answers.name, func(t *testing.T) {
			for _, origin := range slices.Concat(allowedOrigins, foreignOrigins, []string{""}) {
				headers := []string{"Authorization: Bearer " + answers.token}
				if origin != "" {
					headers = append(headers, "Origin: "+origin)
				}
				got := g.do(t, answers.method, answers.path, headers...)
				if got.status != answers.status {
					t.Fatalf("%q: %d %s, want %d", origin, got.status, got.body, answers.status)
				}
				if vary := got.header.Values("Vary"); !slices.Equal(vary, []string{"Origin"}) {
					t.Errorf("%q: Vary %q", origin, vary)
				}
				want := map[string]string{}
				if slices.Contains(allowedOrigins, origin) {
					want = map[string]string{
						"Access-Control-Allow-Origin":      origin,
						"Access-Control-Allow-Credentials": "true",
						"Access-Control-Expose-Headers":    "X-Request-ID, X-Process-Time",
					}
				}
				if cors := accessControl(got); !maps.Equal(cors, want) {
					t.Errorf("%q: %v, want %v", origin, cors, want)
				}
			}
		})
	}
}

func accessControl(a answer) map[string]string {
	out := map[string]string{}
	for name, values := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			out[name] = strings.Join(values, "|")
		}
	}
	return out
}

func TestPreflightsAreAnsweredWithoutATokenOnEveryPath(t *testing.T) {
	t.Parallel()
	g := corsGate(t)
	for _, path := range []string{
		"/api/v1/ingest/x", "/api/v1/query/x", "/api/v1/users/login", "/api/v1/users/me/ensure-company",
		"/api/v1/auth/x", "/api/v1/auth/register", "/health", "/", "/nowhere",
	} {
		for _, origin := range allowedOrigins {
			id := uuid.NewString()
			got := g.do(t, "OPTIONS", path, "Origin: "+origin, "X-Request-ID: "+id,
				"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
			want := map[string]string{
				"Access-Control-Allow-Origin":      origin,
				"Access-Control-Allow-Credentials": "true",
				"Access-Control-Allow-Methods":     "GET, POST, PUT, DELETE, PATCH, OPTIONS",
				"Access-Control-Allow-Headers":     "Authorization, Content-Type, Accept, Origin, X-Requested-With, ngrok-skip-browser-warning, X-Request-ID",
				"Access-Control-Max-Age":           "600",
				"Access-Control-Expose-Headers":    "X-Request-ID, X-Process-Time",
			}
			cors := accessControl(got)
			cors["Access-Control-Expose-Headers"] = want["Access-Control-Expose-Headers"] // optional on a preflight
			if got.status != 200 || !maps.Equal(cors, want) || got.header.Get("Vary") != "Origin" || got.header.Get("X-Process-Time") == "" {
				t.Fatalf("%s from %s: %d %v", path, origin, got.status, got.header)
			}
			if len(g.authz.asked(id)) != 0 {
				t.Errorf("%s: authz was asked about a preflight", path)
			}
		}
		for _, origin := range foreignOrigins {
			id := uuid.NewString()
			got := g.do(t, "OPTIONS", path, "Origin: "+origin, "X-Request-ID: "+id, "Access-Control-Request-Method: POST",
				"Authorization: Bearer allow")
			if got.status != 403 || got.body != detail("Origin is not allowed.") || len(accessControl(got)) != 0 || got.header.Get("Allow") != "" {
				t.Errorf("%s from %s: %d %s %v", path, origin, got.status, got.body, got.header)
			}
			if len(g.authz.asked(id)) != 0 {
				t.Errorf("%s from %s: authz was asked", path, origin)
			}
		}
	}
}

func TestOptionsThatAreNoPreflightAreRequestsLikeAnyOther(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for _, headers := range [][]string{
		nil,
		{"Origin: http://localhost:3000"},
		{"Access-Control-Request-Method: POST"},
	} {
		if got := g.do(t, "OPTIONS", "/api/v1/ingest/x", headers...); got.status != 401 {
			t.Errorf("%q without a token: %d, want 401", headers, got.status)
		}
		got := g.do(t, "OPTIONS", "/api/v1/ingest/x", append(headers, "Authorization: Bearer allow-nobody")...)
		if e := got.echo(t); e.Method != http.MethodOptions || e.Header.Get("X-User-Id") != "" {
			t.Errorf("%q with a token: %+v", headers, e)
		}
	}
}

func TestVaryKeepsWhatTheUpstreamSaysAndNamesOriginOnce(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for _, c := range []struct {
		upstream, want string
	}{
		{"", "Origin"},
		{"v=Accept-Encoding", "Accept-Encoding,Origin"},
		{"v=Accept-Encoding,%20Cookie", "Accept-Encoding,Cookie,Origin"},
		{"v=Origin", "Origin"},
		{"v=origin", "origin"},
		{"v=Accept-Encoding,%20Origin", "Accept-Encoding,Origin"},
		{"v=Origin,Cookie", "Origin,Cookie"},
		{"v=Cookie&v=Origin", "Cookie,Origin"},
		{"v=Cookie&v=Accept", "Cookie,Accept,Origin"},
		{"v=X-Origin", "X-Origin,Origin"},
		{"v=Original", "Original,Origin"},
		{"v=*", "*"},
	} {
		got := g.do(t, "GET", "/api/v1/ingest/do/vary?"+c.upstream, "Authorization: Bearer allow")
		vary := strings.ReplaceAll(strings.Join(got.header.Values("Vary"), ","), " ", "")
		if vary != c.want {
			t.Errorf("%s: Vary %q, want %q", c.upstream, vary, c.want)
		}
	}
}

func TestWhatAnUpstreamSaysAboutTheGateIsReplaced(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	got := g.do(t, "GET", "/api/v1/ingest/do/headers", "Authorization: Bearer allow", "X-Request-ID: mine")
	for name, want := range map[string]string{"X-Request-Id": "mine", "X-Custom": "kept", "Server": "gatehouse"} {
		if v := got.header.Values(name); !slices.Equal(v, []string{want}) {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if v := got.header.Values("X-Process-Time"); len(v) != 1 || !processTime.MatchString(v[0]) {
		t.Errorf("X-Process-Time %q", v)
	}
	if cors := accessControl(got); len(cors) != 0 {
		t.Errorf("the upstream's own CORS headers passed: %v", cors)
	}
	for name := range got.header {
		if strings.HasPrefix(name, "X-Envoy-") {
			t.Errorf("an answer shows %s", name)
		}
	}
}
