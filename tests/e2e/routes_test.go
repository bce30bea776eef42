package e2e

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

var everyMethod = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "FOO"}

const (
	proxied = "GET POST PUT PATCH DELETE OPTIONS"
	nowhere = ""
)

// variant is the gate with the other route table and most settings of the edge.
var variant = sync.OnceValue(func() *stack {
	auth := newUpstream(ground)
	s := startStack(ground, map[string]string{
		"GATEWAY_ROUTES":                "explicit",
		"GATEWAY_AUTH_SERVICE_URL":      auth.URL,
		"GATEWAY_FORWARD_AUTHORIZATION": "true",
		"GATEWAY_HTTP_CLIENT_TIMEOUT":   "1",
		"GATEWAY_PROJECT_NAME":          "Atenex Gate",
		"GATEWAY_VERCEL_FRONTEND_URL":   "https://atenex-front.vercel.app",
		"GATEWAY_NGROK_URL":             "https://a1b2.ngrok-free.app",
		"GATEWAY_CORS_ALLOWED_ORIGINS":  "https://app.example.com,http://localhost:5173",
	})
	s.auth = auth
	return s
})

func sharedVariant(t *testing.T) *stack {
	t.Helper()
	s := variant().in(t)
	s.ingest.forget()
	s.query.forget()
	s.auth.forget()
	return s
}

// expectRoutes asks each path with every method and looks who answered.
func expectRoutes(t *testing.T, s *stack, header http.Header, routes map[string]string, upstreams ...*upstream) {
	t.Helper()
	for path, listed := range routes {
		methods := strings.Fields(listed)
		for _, method := range everyMethod {
			t.Run(method+" "+path, func(t *testing.T) {
				s := s.in(t)
				for _, u := range upstreams {
					u.forget()
				}
				a := s.do(method, path, header, "")
				arrived := 0
				for _, u := range upstreams {
					arrived += len(u.requests())
				}
				switch {
				case a.err != nil:
					t.Fatal(a.err)
				case listed == nowhere:
					expectRefusal(t, method, a, http.StatusNotFound, "Not Found")
				case !slices.Contains(methods, method):
					expectRefusal(t, method, a, http.StatusMethodNotAllowed, "Method Not Allowed")
					expectAllow(t, a, methods)
				case a.status != http.StatusOK || !a.reached() || arrived != 1:
					t.Errorf("got %d %s, %d requests arrived; want the upstream's answer", a.status, a.body, arrived)
				}
				if !slices.Contains(methods, method) && arrived != 0 {
					t.Errorf("%d requests arrived, want none", arrived)
				}
			})
		}
	}
}

func expectRefusal(t *testing.T, method string, a answer, status int, detail string) {
	t.Helper()
	if method == http.MethodHead { // has no body
		if a.status != status {
			t.Errorf("status %d, want %d", a.status, status)
		}
		return
	}
	a.want(t, status, detail)
	if want := `{"detail":"` + detail + `"}`; a.body != want {
		t.Errorf("body = %s, want %s", a.body, want)
	}
}

func expectAllow(t *testing.T, a answer, methods []string) {
	t.Helper()
	got := strings.Split(strings.ReplaceAll(a.header.Get("Allow"), " ", ""), ",")
	slices.Sort(got)
	want := slices.Sorted(slices.Values(methods))
	if !slices.Equal(got, want) {
		t.Errorf("Allow = %v, want %v", got, want)
	}
}

func TestThePrefixTableLeadsWhereItSays(t *testing.T) {
	s := shared(t)
	expectRoutes(t, s, bearer(token(t, claimsOf(s.newMember()))), map[string]string{
		"/api/v1/ingest/":        proxied,
		"/api/v1/ingest/upload":  proxied,
		"/api/v1/ingest/a/b?c=d": proxied,
		"/api/v1/query/ask":      proxied,
		"/api/v1/ingestx":        nowhere,
		"/api/v1/ingest-more/x":  nowhere,
		"/api/v1/queryx/ask":     nowhere,
		"/API/v1/query/ask":      nowhere,
		"/api/v1/QUERY/ask":      nowhere,
		"/api/v1/Users/login":    nowhere,
		"/api/v1/users/login/":   nowhere,
		"/api/v1/users/login/x":  nowhere,
		"/api/v1":                nowhere,
		"/api/v2/query/ask":      nowhere,
		"/health/":               nowhere,
		"/healthz":               nowhere,
		"/livez":                 nowhere,
		"/readyz":                nowhere,
		"/metrics":               nowhere,
		"/favicon.ico":           nowhere,
		"/envoy.service.auth.v3.Authorization/Check":  nowhere,
		"/api/v1/users/logout/":                       nowhere,
		"/api/v1/users/me/":                           nowhere,
		"/.well-known/jwks.json/":                     nowhere,
		"/.well-known/openid-configuration":           nowhere,
		"/api/v1/users/me/ensure-company/anything":    nowhere,
		"/api/v1/users/me/ensure-company%3fquery/ing": nowhere,
	}, s.ingest, s.query)
}

func TestRoutesOfTheLoginServiceTakeOneMethod(t *testing.T) {
	s := shared(t)
	for path, method := range map[string]string{
		"/api/v1/users/login":             "POST",
		"/api/v1/users/me/ensure-company": "POST",
		"/api/v1/users/me/password":       "POST",
		"/api/v1/users/logout":            "POST",
		"/api/v1/users/me":                "GET",
		"/api/v1/auth/register":           "POST",
		"/.well-known/jwks.json":          "GET",
		"/openapi.json":                   "GET",
		"/health":                         "GET",
		"/":                               "GET",
	} {
		u := s.newMember() // one who logs out is of no use to another path
		for _, m := range everyMethod {
			t.Run(m+" "+path, func(t *testing.T) {
				s := s.in(t)
				h := bearer(token(t, claimsOf(u)))
				h.Set("Content-Type", "application/json")
				a := s.do(m, path, h, "")
				if m != method {
					expectRefusal(t, m, a, http.StatusMethodNotAllowed, "Method Not Allowed")
					expectAllow(t, a, []string{method})
					return
				}
				caching := "no-store"
				if path == "/.well-known/jwks.json" {
					caching = "public, max-age=300"
				}
				if a.err != nil || a.header.Get("Cache-Control") != caching {
					t.Errorf("got %d %s %v, want an answer of the login service", a.status, a.body, a.err)
				}
			})
		}
	}
}

func TestAuthRoutesSayThatNobodyIsThere(t *testing.T) {
	s := shared(t)
	const detail = "Authentication endpoint proxy is not configured in this gateway instance."
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		for _, path := range []string{"/api/v1/auth/login", "/api/v1/auth/a/b?c=d"} {
			for name, h := range map[string]http.Header{"with a token": bearer("whatever"), "without one": {}} {
				t.Run(method+" "+path+" "+name, func(t *testing.T) {
					s.in(t).do(method, path, h, "").want(t, http.StatusNotImplemented, detail)
				})
			}
		}
	}
	s.do("PROPFIND", "/api/v1/auth/login", nil, "").want(t, http.StatusMethodNotAllowed, "Method Not Allowed")
}

func TestAuthRoutesPassTheTokenUntouched(t *testing.T) {
	s := sharedVariant(t)
	expectRoutes(t, s, bearer("not-a-token-of-ours"), map[string]string{
		"/api/v1/auth/token?grant=x": proxied,
	}, s.auth, s.ingest, s.query)

	for _, header := range []string{"Bearer not-a-token-of-ours", "Basic dGVzdDp0ZXN0", "bearer  two  spaces"} {
		s.auth.forget()
		s.get("/api/v1/auth/whoami?a=b", http.Header{"Authorization": {header}})
		r := s.auth.only(t)
		if got := r.Header.Values("Authorization"); !slices.Equal(got, []string{header}) {
			t.Errorf("the auth service got Authorization %q, want %q", got, header)
		}
		if r.URI != "/api/v1/auth/whoami?a=b" {
			t.Errorf("the auth service got %s", r.URI)
		}
	}
}

func TestTheExplicitTableHasNothingElse(t *testing.T) {
	s := sharedVariant(t)
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	expectRoutes(t, s, bearer(token(t, claimsOf(s.newMember()))), map[string]string{
		"/api/v1/query/ask":                                      "POST",
		"/api/v1/query/chats":                                    "GET",
		"/api/v1/query/chats/" + id + "/messages":                "GET",
		"/api/v1/query/chats/" + mixed(id) + "/messages":         "GET",
		"/api/v1/query/chats/" + id:                              "DELETE",
		"/api/v1/query/chats/" + mixed(id):                       "DELETE",
		"/api/v1/ingest/upload":                                  "POST",
		"/api/v1/ingest/status":                                  "GET",
		"/api/v1/ingest/status/" + id:                            "GET",
		"/api/v1/ingest/status/" + id + "?x=/../y":               "GET",
		"/api/v1/ingest":                                         nowhere,
		"/api/v1/ingest/":                                        nowhere,
		"/api/v1/ingest/upload/":                                 nowhere,
		"/api/v1/ingest/anything":                                nowhere,
		"/api/v1/query/":                                         nowhere,
		"/api/v1/query/ask/more":                                 nowhere,
		"/api/v1/query/chats/":                                   nowhere,
		"/api/v1/query/chats/not-a-uuid":                         nowhere,
		"/api/v1/query/chats/" + id + "x":                        nowhere,
		"/api/v1/query/chats/" + id[1:]:                          nowhere,
		"/api/v1/query/chats/{" + id + "}":                       nowhere,
		"/api/v1/query/chats/" + strings.ReplaceAll(id, "-", ""): nowhere,
		"/api/v1/query/chats/0g" + id[2:]:                        nowhere,
		"/api/v1/query/chats/" + id + "/":                        nowhere,
		"/api/v1/query/chats/" + id + "/messages/x":              nowhere,
		"/api/v1/query/chats/x/messages":                         nowhere,
		"/api/v1/ingest/status/x":                                nowhere,
	}, s.ingest, s.query, s.auth)
}

func TestTheOtherRoutesStayInTheExplicitTable(t *testing.T) {
	s := sharedVariant(t)
	u := s.withPassword(s.newMember())
	a := s.postJSON("/api/v1/users/login", nil, `{"email":"`+u.email+`","password":"`+u.password+`"}`)
	if err := a.is(http.StatusOK); err != nil {
		t.Error(err)
	}
	a = s.postJSON("/api/v1/users/me/ensure-company", bearer(token(t, claimsOf(u))), "")
	if err := a.is(http.StatusOK); err != nil {
		t.Error(err)
	}
	if a := s.get("/", nil); a.body != `{"message":"Atenex Gate is running!"}` {
		t.Errorf("GET / = %s", a.body)
	}
	if a := s.get("/health", nil); a.body != `{"status":"healthy","service":"Atenex Gate","checks":{"database_connection":"ok"}}` {
		t.Errorf("GET /health = %s", a.body)
	}
	// Strict, like the prefix that they stand for.
	s.postJSON("/api/v1/query/ask", nil, "{}").want(t, http.StatusUnauthorized, "Not authenticated")
	s.postJSON("/api/v1/query/ask", bearer(token(t, claimsOf(s.newUser("")))), "{}").want(t, http.StatusForbidden,
		"User authenticated, but required company association is missing or invalid in token.")
}

func TestPathAndQueryArriveAsSent(t *testing.T) {
	s := shared(t)
	h := bearer(token(t, claimsOf(s.newMember())))
	for _, test := range []struct{ sent, want string }{
		{"/api/v1/query/chats?limit=10&offset=%20a+b", "/api/v1/query/chats?limit=10&offset=%20a+b"},
		{"/api/v1/query/a%20b/%C3%A9?q=%2F..%2f%5c", "/api/v1/query/a%20b/%C3%A9?q=%2F..%2f%5c"},
		{"/api/v1/query/a?", "/api/v1/query/a?"},
		{"/api/v1/query/a?b?c=//x/../y", "/api/v1/query/a?b?c=//x/../y"},
		{"/api/v1/query/a/?x", "/api/v1/query/a/?x"},
		{"/api/v1/query/a;v=1,2:3@x!$&'()*=", "/api/v1/query/a;v=1,2:3@x!$&'()*="},
		{"/api/v1/query/./a/../b", "/api/v1/query/b"},
		{"/api/v1/query//a///b", "/api/v1/query/a/b"},
	} {
		t.Run(quoted(test.sent), func(t *testing.T) {
			s := s.in(t)
			s.query.forget()
			if err := s.get(test.sent, h).is(http.StatusOK); err != nil {
				t.Fatal(err)
			}
			if got := s.query.only(t).URI; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestAuthorizationStaysAtTheGate(t *testing.T) {
	s := shared(t)
	h := bearer(token(t, claimsOf(s.newMember())))
	for path, u := range map[string]*upstream{"/api/v1/ingest/x": s.ingest, "/api/v1/query/x": s.query} {
		s.get(path, h)
		if got := u.only(t).Header.Values("Authorization"); len(got) != 0 {
			t.Errorf("%s: the upstream got Authorization, want none", path)
		}
	}
	// Unless an operator wants otherwise.
	v := sharedVariant(t)
	h = bearer(token(t, claimsOf(v.newMember())))
	v.get("/api/v1/ingest/status", h)
	if got := v.ingest.only(t).Header.Values("Authorization"); !slices.Equal(got, h["Authorization"]) {
		t.Errorf("with FORWARD_AUTHORIZATION=true the upstream got %d Authorization headers, want the client's", len(got))
	}
}

func TestAnOptionsRequestThatIsNoPreflightIsJudgedLikeGet(t *testing.T) {
	s := shared(t)
	s.do("OPTIONS", "/api/v1/query/x", nil, "").want(t, http.StatusUnauthorized, "Not authenticated")
	s.do("OPTIONS", "/api/v1/query/x", http.Header{"Origin": {"http://localhost:3000"}}, "").want(t, http.StatusUnauthorized, "Not authenticated")
	s.do("OPTIONS", "/api/v1/query/x", http.Header{"Access-Control-Request-Method": {"GET"}}, "").want(t, http.StatusUnauthorized, "Not authenticated")
	s.do("OPTIONS", "/api/v1/query/x", bearer(token(t, claimsOf(s.newUser("")))), "").want(t, http.StatusForbidden,
		"User authenticated, but required company association is missing or invalid in token.")
	s.query.none(t)

	h := bearer(token(t, claimsOf(s.newMember())))
	h["X-User-Id"] = []string{"forged"}
	if err := s.do("OPTIONS", "/api/v1/query/x", h, "").is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	if r := s.query.only(t); len(identityOf(r)) != 0 {
		t.Errorf("the upstream got %v, want no identity", identityOf(r))
	}
}

// identityOf are the headers of a request that say who sent it, in any spelling.
func identityOf(r seen) http.Header {
	out := http.Header{}
	for name, values := range r.Header {
		plain := strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(name))
		switch plain {
		case "xuserid", "xcompanyid", "xuseremail":
			out[name] = values
		}
	}
	return out
}
