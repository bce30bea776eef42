package routing_test

import (
	"testing"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/cmd/internal/routing"
	"github.com/atenex/gatehouse/envoy/routes"
)

const guarded = `
upstreams: { ingest: {} }
routes:
  - { name: files, prefix: /files, methods: [GET], mode: strict, upstream: ingest }
  - { name: hook, path: /files/hook, methods: [POST], mode: none, upstream: ingest, opens: [files] }
  - { name: me, path: /me, methods: [GET], mode: initial, upstream: ingest }
  - { name: old, prefix: /old, answer: { status: 410, detail: Gone } }
`

const withRoles = guarded + `
  - { name: report, template: "/reports/{uuid}", methods: [GET], mode: strict, roles: [admin, analyst], upstream: ingest }
`

func TestARouteSaysWhatTheTableSays(t *testing.T) {
	var strict authz.Route
	refused := authz.Route{Roles: ","}
	const report = "/reports/0a1b2c3d-1111-4111-8111-00000000000f"
	for _, c := range []struct {
		name, table, method, path string
		want                      authz.Route
	}{
		{"a strict route", guarded, "GET", "/files/a", authz.Route{Name: "files", Mode: "strict"}},
		{"an open part of it", guarded, "POST", "/files/hook", authz.Route{Name: "hook", Mode: "none"}},
		{"with a query", guarded, "POST", "/files/hook?/..", authz.Route{Name: "hook", Mode: "none"}},
		{"an initial route", guarded, "GET", "/me", authz.Route{Name: "me", Mode: "initial"}},
		{"roles", withRoles, "GET", report, authz.Route{Name: "report", Mode: "strict", Roles: "admin,analyst"}},

		{"another method of an open path", guarded, "GET", "/files/hook", strict},
		{"a preflight", guarded, "OPTIONS", "/files/hook", strict},
		{"a path that nobody named", guarded, "GET", "/files2", strict},
		{"the way into an open path by another", guarded, "POST", "/files/x/../hook", strict},
		{"an open path that can be read otherwise", guarded, "POST", "/files//hook", strict},
		{"an answer of Envoy's own", guarded, "GET", "/old/x", strict},
		{"no path", guarded, "GET", "", strict},

		{"a path that nobody named, beside roles", withRoles, "GET", report + "/", refused},
		{"a method that nobody named, beside roles", withRoles, "HEAD", report, refused},
		{"a path that can be read otherwise, beside roles", withRoles, "GET", "/" + report, refused},
		{"an answer, beside roles", withRoles, "GET", "/old", refused},
		{"what is named, beside roles", withRoles, "GET", "/me", authz.Route{Name: "me", Mode: "initial"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := routes.Parse([]byte(c.table))
			if err != nil {
				t.Fatal(err)
			}
			r := routing.New(table)
			if got := r.Route(c.method, c.path); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if n := testing.AllocsPerRun(20, func() { r.Route(c.method, c.path) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
