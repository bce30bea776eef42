package envoy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/atenex/gatehouse/envoy/routes"
)

var everyMethod = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"}

// destination is where a path leads, for the methods that exist there.
type destination struct {
	path     string
	methods  string // space-separated; every other one is 405
	upstream string
	mode     string // of the check; empty: nobody is asked
	route    string
}

const someUUID = "0A1b2c3d-1111-4111-8111-00000000000f"

var (
	prefixRows = []destination{
		{"/api/v1/ingest/a/b?c=d", "GET POST PUT PATCH DELETE OPTIONS", "ingest", "strict", "ingest"},
		{"/api/v1/ingest", "GET POST PUT PATCH DELETE OPTIONS", "ingest", "strict", "ingest"},
		{"/api/v1/query/a", "GET POST PUT PATCH DELETE OPTIONS", "query", "strict", "query"},
	}
	explicitRows = []destination{
		{"/api/v1/query/ask", "POST", "query", "strict", "query-ask"},
		{"/api/v1/query/chats?x=y", "GET", "query", "strict", "query-chats"},
		{"/api/v1/query/chats/" + someUUID + "/messages?x=y", "GET", "query", "strict", "query-chat-messages"},
		{"/api/v1/query/chats/" + someUUID, "DELETE", "query", "strict", "query-chat-delete"},
		{"/api/v1/ingest/upload", "POST", "ingest", "strict", "ingest-upload"},
		{"/api/v1/ingest/status", "GET", "ingest", "strict", "ingest-status-list"},
		{"/api/v1/ingest/status/" + someUUID, "GET", "ingest", "strict", "ingest-status"},
	}
	otherRows = []destination{
		{"/api/v1/users/login", "POST", "login", "", ""},
		{"/api/v1/users/me/ensure-company", "POST", "login", "initial", "ensure-company"},
		{"/api/v1/users/logout", "POST", "login", "initial", "logout"},
		{"/api/v1/users/me/password", "POST", "login", "initial", "password"},
		{"/api/v1/users/me?x=y", "GET", "login", "initial", "me"},
		{"/api/v1/auth/register", "POST", "login", "", ""},
		{"/api/v1/auth/x", "GET POST PUT PATCH DELETE OPTIONS", "auth", "", ""},
		{"/api/v1/auth", "GET POST PUT PATCH DELETE OPTIONS", "auth", "", ""},
		{"/.well-known/jwks.json", "GET", "login", "", ""},
		{"/openapi.json", "GET", "login", "", ""},
		{"/health", "GET", "login", "", ""},
		{"/", "GET", "login", "", ""},
	}
	// absent are the rows of later issues and what looks like a route but is none.
	absent = []string{
		"/api/v1/users/logout/",
		"/api/v1/users/me/",
		"/api/v1/users/me/passwords",
		"/.well-known/jwks.json/",
		"/.well-known/openid-configuration",
		"/api/v1/users",
		"/api/v1/users/login/",
		"/api/v1/users/login/x",
		"/api/v1/users/login;x",
		"/api/v1/Users/login",
		"/api/v1/ingestx",
		"/api/v1/ingest;x",
		"/API/v1/ingest/x",
		"/api/v1/authx",
		"/healthz",
		"/ready",
		"/stats",
		"/index.html",
	}
)

func TestEveryPathLeadsWhereTheTableSaysForEveryMethod(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		table  string
		rows   []destination
		absent []string
	}{
		{"prefix", append(slices.Clone(prefixRows), otherRows...), absent},
		{"explicit", append(slices.Clone(explicitRows), otherRows...), append(slices.Clone(absent),
			"/api/v1/query/other",
			"/api/v1/query",
			"/api/v1/query/ask/",
			"/api/v1/query/chats/not-a-uuid",
			"/api/v1/query/chats/"+someUUID+"x",
			"/api/v1/query/chats/"+someUUID+"/messages/x",
			"/api/v1/query/chats/"+strings.ReplaceAll(someUUID, "-", ""),
			"/api/v1/query/chats/x/"+someUUID,
			"/api/v1/ingest/x",
			"/api/v1/ingest/status/1",
		)},
	} {
		t.Run(c.table, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, options{tableName: c.table})
			for _, row := range c.rows {
				for _, method := range everyMethod {
					g.checkRow(t, row, method)
				}
			}
			for _, path := range c.absent {
				for _, method := range everyMethod {
					got := g.do(t, method, path, "Authorization: Bearer allow")
					wantBody := detail("Not Found")
					if method == "HEAD" {
						wantBody = ""
					}
					if got.status != 404 || got.body != wantBody {
						t.Errorf("%s %s: %d %s, want 404", method, path, got.status, got.body)
					}
				}
			}
		})
	}
}

func (g *gate) checkRow(t *testing.T, row destination, method string) {
	t.Helper()
	id := uuid.NewString()
	got := g.do(t, method, row.path, "Authorization: Bearer allow", "X-Request-ID: "+id)
	label := fmt.Sprintf("%s %s", method, row.path)
	if !slices.Contains(strings.Fields(row.methods), method) {
		if got.status != 405 || (method != "HEAD" && got.body != detail("Method Not Allowed")) {
			t.Errorf("%s: %d %s, want 405", label, got.status, got.body)
		}
		if allow := strings.ReplaceAll(got.header.Get("Allow"), ",", ""); allow != row.methods {
			t.Errorf("%s: Allow %q, want %q", label, allow, row.methods)
		}
		if n := len(g.authz.asked(id)); n != 0 {
			t.Errorf("%s: authz was asked %d times about a method that does not exist", label, n)
		}
		return
	}
	if got.status != 200 {
		t.Errorf("%s: %d %s, want 200", label, got.status, got.body)
		return
	}
	e := got.echo(t)
	if e.Upstream != row.upstream || e.Method != method || e.URI != row.path {
		t.Errorf("%s: reached %s %s %s", label, e.Upstream, e.Method, e.URI)
	}
	authorization := e.Header.Values("Authorization")
	if keeps := row.upstream == "login" || row.upstream == "auth"; keeps != (len(authorization) == 1) {
		t.Errorf("%s: Authorization %q at %s", label, authorization, row.upstream)
	}
	asked := g.authz.asked(id)
	if row.mode == "" {
		if len(asked) != 0 {
			t.Errorf("%s: authz was asked about an open route", label)
		}
		return
	}
	if len(asked) != 1 {
		t.Fatalf("%s: authz was asked %d times, want once", label, len(asked))
	}
	attributes := asked[0].GetAttributes()
	wantExt := map[string]string{"auth_mode": row.mode, "route": row.route}
	if ext := attributes.GetContextExtensions(); !maps.Equal(ext, wantExt) {
		t.Errorf("%s: context extensions %v, want %v", label, ext, wantExt)
	}
	wantHeaders := map[string]string{"authorization": "Bearer allow", "x-request-id": id}
	if h := attributes.GetRequest().GetHttp().GetHeaders(); !maps.Equal(h, wantHeaders) {
		t.Errorf("%s: authz saw the headers %v, want %v", label, h, wantHeaders)
	}
	if e.Header.Get("X-User-Id") != userID || e.Header.Get("X-Company-Id") != companyID || e.Header.Get("X-User-Email") != userEmail {
		t.Errorf("%s: identity upstream: %v", label, e.Header)
	}
}

func TestWithoutAnAuthServiceItsPathsAnswer501(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{noAuth: true})
	want := detail("Authentication endpoint proxy is not configured in this gateway instance.")
	for _, c := range []struct {
		name, method, path string
		status             int
		body               string
	}{
		{"a path below it", "POST", "/api/v1/auth/x", 501, want},
		{"the path itself", "GET", "/api/v1/auth", 501, want},
		{"a method that would not exist", "TRACE", "/api/v1/auth/x", 405, detail("Method Not Allowed")},
		{"registration is the login service's, and takes one method", "GET", "/api/v1/auth/register", 405, detail("Method Not Allowed")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := g.do(t, c.method, c.path, "Origin: http://localhost:3000")
			if got.status != c.status || got.body != c.body {
				t.Errorf("%d %s, want %d %s", got.status, got.body, c.status, c.body)
			}
			if got.header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" {
				t.Errorf("no CORS headers on a fixed answer: %v", got.header)
			}
		})
	}
	// Envoy's own 501 is about something else.
	if got := g.raw(t, request("POST /api/v1/auth/x", "Transfer-Encoding: made-up")); got.body != detail("Not Implemented") {
		t.Errorf("an unknown transfer coding: %d %s", got.status, got.body)
	}
}

func TestATableOfTheOperatorCanAddUpstreamsRolesAndModes(t *testing.T) {
	t.Parallel()
	extra := startUpstream(t, "billing", t.Cleanup)
	g := newGate(t, options{table: func(tb *routes.Table) {
		tb.Upstreams["billing"] = routes.Upstream{URL: extra.url() + "/base/path/"}
		tb.Routes = append(tb.Routes,
			routes.Route{Name: "billing", Match: routes.Match{Prefix: "/api/v1/billing"}, Methods: []string{"GET"},
				Roles: []string{"owner", "accountant"}, Upstream: "billing"},
			routes.Route{Name: "invoice", Match: routes.Match{Template: "/api/v1/billing/{uuid}"}, Methods: []string{"GET"},
				Mode: routes.Initial, Upstream: "billing"},
			routes.Route{Name: "tariff", Match: routes.Match{Path: "/api/v1/billing/tariff"}, Methods: []string{"GET"},
				Mode: routes.Initial, Upstream: "billing"},
		)
	}})
	for _, c := range []struct {
		name, path string
		want       map[string]string
	}{
		{"roles travel to authz", "/api/v1/billing/a?b=%2fc", map[string]string{"auth_mode": "strict", "route": "billing", "roles": "owner,accountant"}},
		{"a template wins over the prefix", "/api/v1/billing/" + someUUID, map[string]string{"auth_mode": "initial", "route": "invoice"}},
		{"an exact path wins over both", "/api/v1/billing/tariff", map[string]string{"auth_mode": "initial", "route": "tariff"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := uuid.NewString()
			e := g.do(t, "GET", c.path, "Authorization: Bearer allow", "X-Request-ID: "+id).echo(t)
			if e.Upstream != "billing" || e.URI != "/base/path"+c.path {
				t.Errorf("reached %s %s, want the base path in front", e.Upstream, e.URI)
			}
			if asked := g.authz.asked(id); len(asked) != 1 || !maps.Equal(asked[0].GetAttributes().GetContextExtensions(), c.want) {
				t.Errorf("authz was told %v, want %v", asked, c.want)
			}
		})
	}
}
