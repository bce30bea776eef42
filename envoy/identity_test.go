package envoy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/atenex/gatehouse/envoy"
)

// folded is an identity header in any spelling that an upstream might fold.
var folded = regexp.MustCompile(`(?i)^x[^a-z]?(user|company)[^a-z]?(id|email)[^a-z]?$`)

func TestNoForgedIdentityReachesAnyUpstreamOnAnyRoute(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	routes := []struct {
		line, token string
		identified  bool
	}{
		{"GET /api/v1/ingest/x", "allow", true},
		{"OPTIONS /api/v1/query/x", "allow-nobody", false},
		{"POST /api/v1/users/me/ensure-company", "allow", true},
		{"POST /api/v1/users/me/ensure-company", "allow-nobody", false},
		{"POST /api/v1/users/logout", "allow", true},
		{"GET /api/v1/users/me", "allow", true},
		{"POST /api/v1/users/login", "none", false},
		{"GET /api/v1/auth/x", "none", false},
		{"GET /health", "none", false},
		{"GET /", "none", false},
	}
	for _, c := range []struct {
		name    string
		headers []string
	}{
		{"as it is written", []string{"X-User-ID: evil", "X-Company-ID: evil", "X-User-Email: evil"}},
		{"in lower case", []string{"x-user-id: evil", "x-company-id: evil", "x-user-email: evil"}},
		{"in mixed case", []string{"x-UsEr-iD: evil", "X-COMPANY-ID: evil", "X-user-EMAIL: evil"}},
		{"repeated", []string{"X-User-ID: evil", "X-User-ID: evil", "x-user-id: evil", "X-Company-ID: evil", "X-Company-ID: evil"}},
		{"with underscores", []string{"X_User_ID: evil", "X_Company_Id: evil", "x_user_email: evil"}},
		{"with some underscores", []string{"X-User_ID: evil", "X_Company-Id: evil"}},
		{"with dots", []string{"X.User.Id: evil", "x.company.id: evil", "x.user.email: evil"}},
		{"with other separators", []string{"x~user~id: evil", "x!company!id: evil", "x'user'email: evil", "x|user|id: evil"}},
		{"without separators", []string{"xuserid: evil", "XCompanyID: evil", "xUserEmail: evil"}},
		{"with something after", []string{"X-User-ID~: evil", "X-Company-ID-: evil", "x-user-email.: evil"}},
		{"listed in Connection", []string{"Connection: x-user-id, x-company-id, x-user-email", "X-User-ID: evil", "X-Company-ID: evil"}},
		{"empty", []string{"X-User-ID:", "X-Company-ID: ", "X-User-Email:"}},
		{"folded over lines", []string{"X-User-ID: e\r\n vil"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range routes {
				got := g.raw(t, request(r.line, append([]string{"Authorization: Bearer " + r.token, "Content-Length: 0"}, c.headers...)...))
				if got.status == 400 {
					continue // refused outright is as good
				}
				e := got.echo(t)
				for name, values := range e.Header {
					if !folded.MatchString(name) {
						continue
					}
					want := map[string]string{"X-User-Id": userID, "X-Company-Id": companyID, "X-User-Email": userEmail}[name]
					if !r.identified || want == "" || !slices.Equal(values, []string{want}) {
						t.Errorf("%s: the upstream got %s: %q", r.line, name, values)
					}
				}
				if r.identified && e.Header.Get("X-User-Id") != userID {
					t.Errorf("%s: the verified identity is missing: %v", r.line, e.Header)
				}
			}
		})
	}
}

func TestHeadersThatOnlyTheGateMaySpeak(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	got := g.raw(t, request("GET /api/v1/ingest/x",
		"Authorization: Bearer allow",
		"X-Forwarded-For: 6.6.6.6",
		"X-Forwarded-Host: evil.example",
		"X-Forwarded-Proto: https",
		"X-Forwarded-Port: 1",
		"X-Forwarded-Prefix: /evil",
		"X-Forwarded-Client-Cert: By=evil",
		"Forwarded: for=6.6.6.6",
		"X-Real-IP: 6.6.6.6",
		"X-Original-URL: /evil",
		"X-Rewrite-URL: /evil",
		"X-HTTP-Method-Override: DELETE",
		"X-Envoy-Original-Path: /evil",
		"X-Envoy-Upstream-Rq-Timeout-Ms: 1",
		"X-Envoy-Retry-On: 5xx",
		"X-Envoy-Expected-Rq-Timeout-Ms: 1",
		"Proxy: evil",
		"Proxy-Authorization: Basic evil",
		"Proxy-Connection: keep-alive",
		"Keep-Alive: timeout=5",
		"TE: trailers",
		"Proxy-Authenticate: Basic",
		"Trailer: X-User-ID",
		"Upgrade: h2c",
		"HTTP2-Settings: AAMAAABkAAQAAP__",
		"X_Anything: evil",
		"X-Kept: kept",
		"Cookie: kept=1",
	))
	e := got.echo(t)
	for name := range e.Header {
		l := strings.ToLower(name)
		if slices.Contains([]string{
			"x-forwarded-port", "x-forwarded-prefix", "x-forwarded-client-cert", "forwarded", "x-real-ip", "x-original-url",
			"x-rewrite-url", "x-http-method-override", "proxy", "proxy-authorization", "proxy-connection", "keep-alive",
			"trailer", "te", "proxy-authenticate", "upgrade", "connection", "x_anything", "authorization",
		}, l) || (strings.HasPrefix(l, "x-envoy-") && l != "x-envoy-external-address") {
			t.Errorf("the upstream got %s: %q", name, e.Header[name])
		}
	}
	for name, want := range map[string]string{
		"X-Forwarded-Host": "gate.test", "X-Forwarded-Proto": "http", "X-Kept": "kept", "Cookie": "kept=1",
	} {
		if v := e.Header.Values(name); !slices.Equal(v, []string{want}) {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if xff := e.Header.Values("X-Forwarded-For"); len(xff) != 1 || !strings.HasPrefix(xff[0], "6.6.6.6,") || strings.Count(xff[0], ",") != 1 {
		t.Errorf("X-Forwarded-For %q, want the client's with one address appended", xff)
	}
	if e.Host != strings.TrimPrefix(g.ups["ingest"].url(), "http://") {
		t.Errorf("Host %q, want that of the upstream's URL", e.Host)
	}
}

func TestAuthorizationIsForwardedWhereTheOperatorAsksForIt(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{settings: func(s *envoy.Settings) { s.ForwardAuthorization = true }})
	for _, path := range []string{"/api/v1/ingest/x", "/api/v1/query/x"} {
		if v := g.do(t, "GET", path, "Authorization: Bearer allow").echo(t).Header.Values("Authorization"); !slices.Equal(v, []string{"Bearer allow"}) {
			t.Errorf("%s: Authorization %q", path, v)
		}
	}
}

func TestRepeatedAuthorizationReachesAuthzAsOneValue(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	id := uuid.NewString()
	got := g.raw(t, request("GET /api/v1/ingest/x", "Authorization: Bearer allow", "Authorization: Bearer allow", "X-Request-ID: "+id))
	if got.status != 401 {
		t.Errorf("status %d, want authz's 401", got.status)
	}
	asked := g.authz.asked(id)
	if len(asked) != 1 {
		t.Fatalf("asked %d times", len(asked))
	}
	if v := asked[0].GetAttributes().GetRequest().GetHttp().GetHeaders()["authorization"]; v != "Bearer allow,Bearer allow" {
		t.Errorf("authz saw %q", v)
	}
}

func TestRequestIDIsTheClientsOrANewOneAndBounded(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	long := strings.Repeat("0123456789", 10)
	for _, c := range []struct {
		name string
		sent []string
		want string // empty: a new UUID
	}{
		{"the client's is kept byte for byte", []string{"X-Request-ID: Abc-1.2_3"}, "Abc-1.2_3"},
		{"a UUID is kept too", []string{"X-Request-ID: " + someUUID}, someUUID},
		{"a long one is cut at 64", []string{"X-Request-ID: " + long}, long[:64]},
		{"without one a UUID is made", nil, ""},
		{"an empty one counts as none", []string{"X-Request-ID:"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/api/v1/ingest/do/headers", "/api/v1/ingest/do/503", "/health", "/nowhere", "/api/v1/users/me/ensure-company"} {
				got := g.raw(t, request("GET "+path, append([]string{"Authorization: Bearer allow"}, c.sent...)...))
				ids := got.header.Values("X-Request-Id")
				if len(ids) != 1 || (c.want != "" && ids[0] != c.want) {
					t.Errorf("%s: answered %q, want %q", path, ids, c.want)
					continue
				}
				if c.want == "" {
					if _, err := uuid.Parse(ids[0]); err != nil {
						t.Errorf("%s: made %q, which is no UUID", path, ids[0])
					}
				}
				if got.status == 200 {
					if up := got.echo(t).Header.Values("X-Request-Id"); !slices.Equal(up, ids) {
						t.Errorf("%s: upstream got %q, the client %q", path, up, ids)
					}
				}
			}
		})
	}
	t.Run("two are cut as one", func(t *testing.T) {
		got := g.raw(t, request("GET /health", "X-Request-ID: "+long, "X-Request-ID: b"))
		if ids := got.header.Values("X-Request-Id"); len(ids) != 1 || len(ids[0]) > 64 {
			t.Errorf("answered %q", ids)
		}
	})
}

var processTime = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?ms$`)

func TestProcessTimeIsOnEveryAnswer(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for _, c := range []struct {
		line, token string
		want        int
	}{
		{"GET /api/v1/ingest/do/headers", "allow", 200},
		{"GET /api/v1/ingest/do/500", "allow", 500},
		{"GET /api/v1/ingest/do/reset", "allow", 502},
		{"GET /api/v1/ingest/x", "none", 401},
		{"GET /api/v1/ingest/x", "rpc-error", 503},
		{"GET /api/v1/ingest/x", "empty", 503},
		{"GET /nowhere", "none", 404},
		{"GET /api/v1/users/login", "none", 405},
	} {
		got := g.raw(t, request(c.line, "Authorization: Bearer "+c.token))
		values := got.header.Values("X-Process-Time")
		if got.status != c.want || len(values) != 1 || !processTime.MatchString(values[0]) {
			t.Errorf("%s: %d, X-Process-Time %q", fmt.Sprint(c.line, " ", c.token), got.status, values)
		}
	}
}
