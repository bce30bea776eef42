package envoy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

func TestADifferenceIsSaidInWords(t *testing.T) {
	t.Parallel()
	const before = `
upstreams:
  ingest: {}
  other: { url: "http://other:80" }
routes:
  - { name: a, prefix: /a, methods: [GET], mode: strict, roles: [admin], upstream: ingest }
  - { name: b, path: /b, methods: [POST], mode: none, upstream: other }
  - { name: c, template: "/c/{uuid}", methods: [GET], mode: initial, upstream: ingest }
`
	render := func(t *testing.T, text string) *bootstrapv3.Bootstrap {
		t.Helper()
		table, err := routes.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		b, err := envoy.Bootstrap(table, envoy.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name     string
		from, to string
		want     []string // loud ones begin with "! "
	}{
		{"nothing", "", "", nil},
		{"another order in the table means nothing", "  - { name: a, prefix: /a, methods: [GET], mode: strict, roles: [admin], upstream: ingest }\n  - { name: b, path: /b, methods: [POST], mode: none, upstream: other }\n",
			"  - { name: b, path: /b, methods: [POST], mode: none, upstream: other }\n  - { name: a, prefix: /a, methods: [GET], mode: strict, roles: [admin], upstream: ingest }\n", nil},
		{"a route that opens", "mode: initial", "mode: none", []string{`! route "c": mode initial -> none: anybody gets there, without a token`}},
		{"a route that closes", "mode: none", "mode: strict", []string{`! route "b": mode none -> strict: a token is needed now`}},
		{"a weaker mode", "mode: strict", "mode: initial", []string{`! route "a": mode strict -> initial: no company is needed any more`}},
		{"no roles any more", "roles: [admin], ", "", []string{`! route "a": roles admin -> none`}},
		{"other roles", "roles: [admin]", "roles: [admin, user]", []string{`! route "a": roles admin -> admin,user`}},
		{"another path", "/c/{uuid}", "/d/{uuid}", []string{`! route "c": path /c/{uuid} -> /d/{uuid}`}},
		{"more methods", "methods: [POST]", "methods: [POST, PUT]", []string{`! route "b": methods POST -> POST,PUT`}},
		{"another upstream", "mode: initial, upstream: ingest", "mode: initial, upstream: other", []string{`! route "c": leads to ingest -> other`}},
		{"a route more", "routes:\n", "routes:\n  - { name: z, path: /z, methods: [GET], mode: none, upstream: ingest }\n",
			[]string{`! route "z": added: GET /z (none) leads to ingest`}},
		{"a route less", "  - { name: a, prefix: /a, methods: [GET], mode: strict, roles: [admin], upstream: ingest }\n", "",
			[]string{`! route "a": removed: GET /a/* (strict, roles admin) leads to ingest`}},
		{"an answer in the place of an upstream", "  - { name: b, path: /b, methods: [POST], mode: none, upstream: other }", "  - { name: bb, path: /bb, methods: [POST], mode: none, upstream: other }\n  - { name: b, path: /b, answer: { status: 410, detail: Gone } }",
			[]string{`! route "b": mode none -> strict: a token is needed now`, `! route "b": methods POST -> none`, `! route "b": leads to other -> an answer of 410`, `! route "bb": added`,
				`  route "b": metadata`, `  route "b": route.retry_policy`, `  route "b": route.timeout`, `! route "b": request_headers_to_remove`}},
		{"another address", "http://other:80", "http://another:80", []string{`! upstream "other": address other:80 -> another:80`}},
		{"TLS less, as it were", "http://other:80", "https://other:80", []string{`! upstream "other": transport_socket`}},
		{"a limit", "mode: initial", "mode: initial, max_body: 1KiB", []string{`  route "c": largest body any -> 1024 bytes`, `  the gate: `}},
		{"a time-out", "mode: initial", "mode: initial, timeouts: { idle: 5s }", []string{`  route "c": route.retry_policy.per_try_idle_timeout: "60s" -> "5s"`}},
		{"connections", `url: "http://other:80"`, `url: "http://other:80", connections: { max: 7 }`, []string{`  upstream "other": circuit_breakers.thresholds[0].max_connections: 200 -> 7`, `  upstream "other": circuit_breakers.thresholds[0].max_pending_requests: 200 -> 7`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			changes, err := envoy.Diff(render(t, before), render(t, strings.Replace(before, c.from, c.to, 1)))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, change := range changes {
				mark := "  "
				if change.Loud {
					mark = "! "
				}
				if i > 0 && change.Loud && !changes[i-1].Loud {
					t.Errorf("a loud change comes after a quiet one: %+v", changes)
				}
				got = append(got, fmt.Sprintf("%s%s: %s", mark, change.About, change.What))
			}
			if len(c.want) == 0 && len(got) > 0 {
				t.Errorf("got %q, want nothing", got)
			}
			for _, want := range c.want {
				if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("got\n%s\nwant %s", strings.Join(got, "\n"), want)
				}
			}
			for _, line := range got {
				if !slices.ContainsFunc(c.want, func(want string) bool { return strings.HasPrefix(line, want) }) && !strings.Contains(line, "transport_socket") {
					t.Errorf("not wanted: %s", line)
				}
			}
		})
	}
}

func TestADifferenceOfTheGateItselfIsLoudWhereItGuards(t *testing.T) {
	t.Parallel()
	render := func() *bootstrapv3.Bootstrap {
		table, err := routes.Load("prefix")
		if err != nil {
			t.Fatal(err)
		}
		b, err := envoy.Bootstrap(table, envoy.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	weaker := render()
	packed := weaker.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig()
	m := new(managerv3.HttpConnectionManager)
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	m.ServerName = "other"
	for _, f := range m.GetHttpFilters() {
		a := new(authzv3.ExtAuthz)
		if f.GetTypedConfig().MessageIs(a) {
			if err := f.GetTypedConfig().UnmarshalTo(a); err != nil {
				t.Fatal(err)
			}
			a.FailureModeAllow = true
			if err := f.GetTypedConfig().MarshalFrom(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := packed.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
	changes, err := envoy.Diff(render(), weaker)
	if err != nil || len(changes) != 2 {
		t.Fatalf("%+v %v", changes, err)
	}
	if !changes[0].Loud || !strings.HasSuffix(changes[0].What, "[envoy.filters.http.ext_authz].typed_config.failure_mode_allow: unset -> true") {
		t.Errorf("first %+v", changes[0])
	}
	if changes[1].Loud || !strings.HasSuffix(changes[1].What, `server_name: "gatehouse" -> "other"`) {
		t.Errorf("second %+v", changes[1])
	}
	// The order in which routes are tried is the law.
	swapped := render()
	packed = swapped.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig()
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes())
	if err := packed.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
	changes, err = envoy.Diff(render(), swapped)
	if err != nil || len(changes) != 1 || !changes[0].Loud || !strings.Contains(changes[0].What, "order of routes") {
		t.Errorf("%+v %v", changes, err)
	}
}
