package routes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"github.com/atenex/gatehouse/envoy/routes"
)

// tableSchema is the schema that editors are given.
func tableSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(routes.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bySchema is what the schema says against a table in YAML.
func bySchema(t *testing.T, s *jsonschema.Schema, table string) error {
	t.Helper()
	text, err := yaml.YAMLToJSON([]byte(table))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func TestTheSchemaTakesEveryTableThatShips(t *testing.T) {
	t.Parallel()
	s := tableSchema(t)
	for _, name := range routes.Shipped() {
		text, err := os.ReadFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if err := bySchema(t, s, string(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(string(text), "# yaml-language-server: $schema=schema.json\n") {
			t.Errorf("%s names no schema in its first line", name)
		}
	}
}

// TestTheSchemaAndTheReaderAgree holds the two against each other on a table
// with everything in it, of which each case says one thing otherwise.
func TestTheSchemaAndTheReaderAgree(t *testing.T) {
	t.Parallel()
	const whole = `
upstreams:
  ingest:
  login: {}
  auth: { unset: { status: 501, detail: Not here } }
  reports:
    url: https://reports:8443/base
    authorization: true
    headers: { drop: [cookie] }
    http2: true
    grpc_web: true
    tls: { ca: /etc/ca.pem, server_name: reports.test }
    timeouts: { idle: 5s, total: 1m30s, connect: 500ms }
    connections: { max: 10, waiting: 20 }
    retries: 2
  media: { url: http://media }
routes:
  - { name: report, template: "/r/{uuid}", methods: [GET, PUT], mode: strict, roles: [admin], upstream: reports, timeouts: { idle: 1s }, rate_limit: 5/m burst 10, max_body: 10MiB, headers: { forward: [accept] } }
  - { name: media, prefix: /m, methods: [GET], mode: initial, upstream: media, websocket: true, max_body: 1024 }
  - { name: hook, path: /m/hook, methods: [POST], mode: none, upstream: media, rate_limit: true, opens: [media] }
  - { name: gone, path: /old, answer: { status: 410, detail: Gone } }
`
	s := tableSchema(t)
	for _, c := range []struct {
		from, to string
		want     bool // accepted
	}{
		{"", "", true},
		{"http2: true\n    grpc_web: true", "http2: false", true},
		{"http2: true", "http2: false", false},
		{"drop: [cookie]", "forward: [cookie, accept]", true},
		{"max_body: 10MiB", "max_body: 1GiB", true},
		{"5/m burst 10", "5/m", true},
		{"ingest:\n", "ingest: {}\n", true},

		{"http2: true", "http3: true", false},
		{"grpc_web: true", "grpc_web: 1", false},
		{"http2: true", "http2: yes please", false},
		{"authorization: true", `authorization: "true"`, false},
		{"http2: true", "insecure: true", false},
		{"reports:\n", "Reports:\n", false},
		{"  media: { url: http://media }", "  media: {}", false},
		{"  media: { url: http://media }", "  media: { url: ftp://media }", false},
		{"  media: { url: http://media }", `  media: { url: "http://media?x" }`, false},
		{"  media: { url: http://media }", "  media: { url: http://media, tls: {} , unset: { status: 501, detail: x } }", false},
		{"  media: { url: http://media }", "  media: { url: http://media, tls: { server_name: x } }", false},
		{"login: {}", "login: { url: http://login }", false},
		{"login: {}", "login: { unset: { status: 501, detail: x } }", false},
		{"login: {}", "authz: { url: http://x }", false},
		{"drop: [cookie]", "drop: [cookie], forward: [accept]", false},
		{"drop: [cookie]", "drop: [Cookie]", false},
		{"drop: [cookie]", "drop: [cookie, cookie]", false},
		{"drop: [cookie]", "drop: [authorization]", false},
		{"drop: [cookie]", "drop: [x-user-id]", false},
		{"drop: [cookie]", "forward: [x-original-url]", false},
		{"drop: [cookie]", "forward: [x-envoy-internal]", false},
		{"ca: /etc/ca.pem", "ca: ca.pem", false},
		{"server_name: reports.test", `server_name: "*.test"`, false},
		{"idle: 5s", "idle: 5", false},
		{"idle: 5s", "idle: soon", false},
		{"idle: 5s", "idel: 5s", false},
		{"max: 10", "max: -1", false},
		{"max: 10", "max: 1000001", false},
		{"max: 10", "max: 1.5", false},
		{"retries: 2", "retries: 4", false},
		{"status: 501", "status: 200", false},
		{"detail: Not here", `detail: " "`, false},

		{"name: report,", "", false},
		{"- { name: report", "- { name: preflight", false},
		{"- { name: report", "- { name: Report", false},
		{"- { name: report", "- { name: 1", false},
		{"mode: strict", "mode: Strict", false},
		{"mode: strict, ", "", false},
		{"mode: strict", "mode: none", false}, // with roles
		{"methods: [GET, PUT]", "methods: [get]", false},
		{"methods: [GET, PUT]", "methods: []", false},
		{"methods: [GET, PUT]", "methods: [GET, GET]", false},
		{"methods: [GET, PUT]", "methods: [TRACE]", false},
		{"methods: [GET, PUT]", "methods: GET", false},
		{"methods: [GET, PUT], ", "", false},
		{"roles: [admin]", `roles: ["a,b"]`, false},
		{"roles: [admin]", "roles: []", false},
		{"roles: [admin]", "roles: [admin, admin]", false},
		{"upstream: reports, ", "", false},
		{"/r/{uuid}", "/r/{id}", false},
		{"/r/{uuid}", "/r/x{uuid}", false},
		{"/r/{uuid}", "/r/../{uuid}", false},
		{"/r/{uuid}", "/r", false},
		{`template: "/r/{uuid}"`, `template: "/r/{uuid}", path: /r`, false},
		{`template: "/r/{uuid}", `, ``, false},
		{"prefix: /m,", "prefix: /m/,", false},
		{"prefix: /m,", "prefix: /,", false},
		{"prefix: /m,", "prefix: /m//n,", false},
		{"prefix: /m,", "prefix: /m/./n,", false},
		{"prefix: /m,", "prefix: m,", false},
		{"prefix: /m,", "prefix: /m%2f,", false},
		{"rate_limit: 5/m burst 10", "rate_limit: 5/d", false},
		{"rate_limit: 5/m burst 10", "rate_limit: 5", false},
		{"max_body: 10MiB", "max_body: 10MB", false},
		{"max_body: 10MiB", "max_body: 0", false},
		{"forward: [accept]", "drop: [accept, cookie]", true},
		{"forward: [accept]", "forward: [accept], drop: [cookie]", false},
		{"forward: [accept]", "forward: [x-user-id]", false},
		{"forward: [accept]", "drop: [x-company-id]", false},
		{"forward: [accept]", "drop: [authorization]", false},
		{"forward: [accept]", "remove: [accept]", false},
		{"answer: { status: 410", "headers: { drop: [cookie] }, answer: { status: 410", false},
		{"max_body: 10MiB", "max_body: 1073741825", false},
		{"methods: [GET], mode: initial", "methods: [POST], mode: initial", false}, // a websocket without GET
		{"max_body: 1024", "opens: [report]", false},                               // of a guarded route
		{"answer: { status: 410", "methods: [GET], answer: { status: 410", false},
		{"answer: { status: 410", "mode: none, answer: { status: 410", false},
		{"answer: { status: 410", "upstream: media, answer: { status: 410", false},
		{"status: 410", "status: \"410\"", false},
		{"upstreams:", "version: 1\nupstreams:", false},
	} {
		t.Run(fmt.Sprintf("%q for %q", c.to, c.from), func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(whole, c.from) {
				t.Fatal("the case changes nothing")
			}
			table := strings.Replace(whole, c.from, c.to, 1)
			_, read := routes.Parse([]byte(table))
			if schema := bySchema(t, s, table); (read == nil) != c.want || (schema == nil) != c.want {
				t.Errorf("the reader says %v, the schema %v, want accepted: %v", read, schema, c.want)
			}
		})
	}
}

// TestTheSchemaKnowsEveryKey asks the reader, which lists the keys that it
// knows, and compares.
func TestTheSchemaKnowsEveryKey(t *testing.T) {
	t.Parallel()
	var doc map[string]any
	if err := json.Unmarshal(routes.Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	keys := func(path ...string) int {
		at := doc
		for _, p := range append(path, "properties") {
			at, _ = at[p].(map[string]any)
		}
		return len(at)
	}
	listed := regexp.MustCompile(`unknown key "zz", want one of ([a-z0-9_, ]+)`)
	for _, c := range []struct {
		table string
		want  int
	}{
		{"zz: 1", keys()},
		{"upstreams: {x: {zz: 1}}", keys("$defs", "upstream")},
		{"upstreams: {x: {tls: {zz: 1}}}", keys("$defs", "upstream", "properties", "tls")},
		{"upstreams: {x: {headers: {zz: 1}}}", keys("$defs", "passing")},
		{"upstreams: {x: {timeouts: {zz: 1}}}", keys("$defs", "upstream", "properties", "timeouts")},
		{"upstreams: {x: {connections: {zz: 1}}}", keys("$defs", "upstream", "properties", "connections")},
		{"upstreams: {x: {unset: {zz: 1}}}", keys("$defs", "answer")},
		{"routes: [{zz: 1}]", keys("$defs", "route")},
		{"routes: [{timeouts: {zz: 1}}]", keys("$defs", "route", "properties", "timeouts")},
		{"routes: [{headers: {zz: 1}}]", keys("$defs", "passing")},
	} {
		_, err := routes.Parse([]byte(c.table))
		m := listed.FindStringSubmatch(fmt.Sprint(err))
		if m == nil {
			t.Errorf("%s: %v", c.table, err)
			continue
		}
		known := strings.Split(m[1], ", ")
		if len(known) != c.want {
			t.Errorf("%s: the reader knows %q, the schema %d keys", c.table, known, c.want)
		}
		for _, key := range known {
			if !strings.Contains(string(routes.Schema()), `"`+key+`": `) {
				t.Errorf("%s: the schema has no %q", c.table, key)
			}
		}
	}
}
