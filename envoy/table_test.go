package envoy_test

import (
	"strings"
	"testing"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

// manyHeaders are 32 names that share as little as names can.
func manyHeaders() string {
	var names []string
	for i := range 32 {
		names = append(names, string(rune('a'+i%26))+"-"+strings.Repeat(string(rune('a'+i%25)), 60))
	}
	return strings.Join(names, ", ")
}

// alike are 32 names of the greatest length that begin with the same letter and
// part after it, which is what makes one expression the longest.
func alike() string {
	var names []string
	for _, second := range "abcdefghijklmnopqrstuvwxyz012345" {
		names = append(names, "x"+strings.Repeat(string(second), 62))
	}
	return strings.Join(names, ", ")
}

// TestAnAcceptedTableIsOneThatEnvoyTakes covers the corners of what a table may
// say: what passes here must not fail an operator at three in the morning.
func TestAnAcceptedTableIsOneThatEnvoyTakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 63)
	for _, c := range []struct{ name, table string }{
		{"the longest names", `{upstreams: {ingest: {}}, routes: [{name: a` + long[1:] + `, path: /a, methods: [GET], mode: strict, upstream: ingest}]}`},
		{"a long template", `{upstreams: {ingest: {}}, routes: [{name: a, template: "/` + long + `/{uuid}/` + long + `/{uuid}/{uuid}", methods: [GET], mode: strict, upstream: ingest}]}`},
		{"a literal UUID beside a template", `{upstreams: {ingest: {}}, routes: [{name: a, template: "/{uuid}", methods: [GET], mode: strict, upstream: ingest}, {name: b, path: /` + someUUID + `, methods: [GET], mode: strict, upstream: ingest}]}`},
		{"every character of a path", `{upstreams: {ingest: {}}, routes: [{name: a, path: "/A.z_~!$&'()*+,=:@-9", methods: [GET], mode: strict, upstream: ingest}, {name: b, template: "/a.b+(c)/{uuid}", methods: [GET], mode: strict, upstream: ingest}]}`},
		{"an upstream at an IPv6 address with a base path", `{upstreams: {x: {url: "http://[::1]:81/a.b/c"}}, routes: [{name: a, prefix: /a, methods: [GET], mode: none, upstream: x}]}`},
		{"an upstream with an underscore, as compose names them", `{upstreams: {x: {url: "http://my_service:81"}}, routes: [{name: a, prefix: /a, methods: [GET], mode: none, upstream: x}]}`},
		{"every option of a route", `{upstreams: {ingest: {}}, routes: [{name: a, prefix: /a, methods: [GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS], mode: initial, roles: [a, b.c:d_e-f], upstream: ingest, timeouts: {idle: 1ms, total: 1h}, rate_limit: true, websocket: true, headers: {drop: [cookie]}}]}`},
		{"every option of an upstream", `{upstreams: {x: {url: "https://x.test/base", authorization: true, headers: {drop: [cookie, x-y-z]}, http2: true, grpc_web: true, tls: {ca: /etc/ssl/certs/ca-certificates.crt, server_name: inner.test}, timeouts: {idle: 1s, total: 2s, connect: 3s}, connections: {max: 1, waiting: 2}, retries: 3}}, routes: [{name: a, prefix: /a, methods: [GET, POST], mode: strict, upstream: x, rate_limit: 5/m burst 6, max_body: 1GiB}]}`},
		{"as many forwarded headers as may be", `{upstreams: {x: {url: "http://x.test", headers: {forward: [` + manyHeaders() + `]}}}, routes: [{name: a, prefix: /a, methods: [GET, POST], mode: strict, upstream: x, headers: {forward: [` + manyHeaders() + `]}}]}`},
		{"as many forwarded headers that begin alike", `{upstreams: {x: {url: "http://x.test", headers: {forward: [` + alike() + `]}}}, routes: [{name: a, prefix: /a, methods: [GET, POST], mode: strict, upstream: x}]}`},
		{"answers with marks that mean something to Envoy", `{upstreams: {ingest: {}}, routes: [{name: a, path: /a, answer: {status: 599, detail: "100 % \"sure\" %LOCAL_REPLY_BODY% \u00e4\n"}}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			table, err := routes.Parse([]byte(c.table))
			if err != nil {
				t.Fatal(err)
			}
			b, err := envoy.Bootstrap(table, envoy.DefaultSettings())
			if err != nil {
				t.Fatal(err)
			}
			config, err := envoy.YAML(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := envoy.Validate(t.Context(), binary(t), config); err != nil {
				t.Error(err)
			}
		})
	}
}
