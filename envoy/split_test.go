package envoy_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

const (
	watchedDir = "/etc/envoy"
	// small is a table of the least that one may say.
	small = `{upstreams: {ingest: {}}, routes: [{name: a, path: /a, methods: [GET], mode: none, upstream: ingest}]}`
)

func split(t *testing.T, table string) envoy.Files {
	t.Helper()
	parsed, err := routes.Load(table)
	if strings.ContainsAny(table, "{\n") {
		parsed, err = routes.ParseOf("table", []byte(table))
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := envoy.Split(parsed, envoy.DefaultSettings(), watchedDir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// manualTable is the first of docs/routes.md, which shows every key.
func manualTable(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "routes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	table, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/routes.md has no table")
	}
	return table
}

// TestTheListenerOfASplitConfigurationKnowsNoTable is what a reload rests on: a
// listener that changes loses its connections.
func TestTheListenerOfASplitConfigurationKnowsNoTable(t *testing.T) {
	t.Parallel()
	want := split(t, small)
	for name, table := range map[string]string{
		"the shipped one by prefixes":        "prefix",
		"the shipped one path by path":       "explicit",
		"that of the manual, with every key": manualTable(t),
		"one of answers alone":               `{upstreams: {}, routes: [{name: a, path: /a, answer: {status: 410, detail: gone}}]}`,
		"one with a limit on bodies":         `{upstreams: {ingest: {}}, routes: [{name: a, path: /a, methods: [POST], mode: strict, upstream: ingest, max_body: 1MiB}]}`,
		"one with headers of a route":        `{upstreams: {ingest: {}}, routes: [{name: a, path: /a, methods: [POST], mode: strict, upstream: ingest, headers: {forward: [accept]}}]}`,
		"one with HTTP/2":                    `{upstreams: {x: {url: "http://x.test", http2: true}}, routes: [{name: a, path: /a, methods: [POST], mode: strict, upstream: x}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := split(t, table)
			for _, file := range []string{envoy.FileBootstrap, envoy.FileListeners} {
				if !bytes.Equal(got[file], want[file]) {
					t.Errorf("%s depends on the table:\n%s", file, got[file])
				}
			}
			if bytes.Equal(got[envoy.FileRoutes], want[envoy.FileRoutes]) {
				t.Error("the routes do not depend on it")
			}
		})
	}
	if again := split(t, small); !maps.EqualFunc(want, again, bytes.Equal) {
		t.Error("the same table gives other bytes")
	}
}

func TestSplitFilesJoinedAreTheConfigurationInOne(t *testing.T) {
	t.Parallel()
	// One that asks for all filters, so that nothing is off that would be missing.
	table, err := routes.ParseOf("routes.yaml", []byte(manualTable(t)))
	if err != nil {
		t.Fatal(err)
	}
	s := envoy.DefaultSettings()
	s.Tracing = envoy.Tracing{Endpoint: "http://collector:4318", Ratio: 1}
	whole, err := envoy.Bootstrap(table, s)
	if err != nil {
		t.Fatal(err)
	}
	files, err := envoy.Split(table, s, watchedDir)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := files.Join()
	if err != nil {
		t.Fatal(err)
	}
	var texts [2]string
	for i, b := range []*bootstrapv3.Bootstrap{whole, joined} {
		slices.SortFunc(b.StaticResources.Clusters, func(a, b2 *clusterv3.Cluster) int { return strings.Compare(a.GetName(), b2.GetName()) })
		text, err := envoy.YAML(b)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	if texts[0] != texts[1] {
		t.Errorf("joined:\n%s\nin one:\n%s", texts[1], texts[0])
	}
}

func TestATableIsSwappedInAnOrderThatLosesNothing(t *testing.T) {
	t.Parallel()
	// More is small, an upstream and a route.
	const more = `{upstreams: {ingest: {}, x: {url: "http://x.test"}}, routes: [{name: a, path: /a, methods: [GET], mode: none, upstream: ingest}, {name: b, path: /b, methods: [GET], mode: strict, upstream: x}]}`
	known := map[string]envoy.Files{"": {}}
	filesOf := func(t *testing.T, table string) envoy.Files {
		t.Helper()
		if known[table] == nil {
			known[table] = split(t, table)
		}
		return known[table]
	}
	for _, c := range []struct {
		name          string
		before, after string // empty: nothing is there
		want          string // files, with the clusters of ours that they know
		effect        string
	}{
		{"nothing is there", "", small, "bootstrap.yaml cds.yaml[ingest] lds.yaml rds.yaml", "all files are new"},
		{"nothing changes", more, more, "", "none"},
		{"a cluster is there before its route", small, more, "cds.yaml[ingest x] rds.yaml", "clusters, routes"},
		{"a cluster goes after its route", more, small, "rds.yaml cds.yaml[ingest]", "clusters, routes"},
		{"one goes and another comes", more, strings.NewReplacer("x:", "z:", "upstream: x", "upstream: z").Replace(more),
			"cds.yaml[ingest x z] rds.yaml cds.yaml[ingest z]", "clusters, routes"},
		{"another mode", small, strings.Replace(small, "none", "strict", 1), "rds.yaml", "routes only"},
		{"another time to connect", more, strings.Replace(more, "x.test\"", "x.test\", timeouts: {connect: 1s}", 1), "cds.yaml[ingest x]", "clusters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := filesOf(t, c.before), filesOf(t, c.after)
			steps, err := envoy.Steps(before, after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			there := maps.Clone(before)
			for _, s := range steps {
				text := s.File
				if s.File == envoy.FileClusters {
					var names []string
					for _, name := range []string{"ingest", "x", "z"} {
						if strings.Contains(string(s.Content), "\n  name: "+name+"\n") {
							names = append(names, name)
						}
					}
					text += "[" + strings.Join(names, " ") + "]"
				}
				if has := strings.Contains(string(s.Content), "\nversion_info: "+s.Version+"\n"); has == (s.File == envoy.FileBootstrap) {
					t.Errorf("%s has not the version %q", s.File, s.Version)
				}
				got = append(got, text)
				there[s.File] = s.Content
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("the steps are %s, want %s", text, c.want)
			}
			if !maps.EqualFunc(there, after, bytes.Equal) {
				t.Error("they do not lead to what is wanted")
			}
			if got := envoy.Effect(before, after); got != c.effect {
				t.Errorf("the effect is %q, want %q", got, c.effect)
			}
		})
	}
}

func TestWhatSettingsChangeIsSaid(t *testing.T) {
	t.Parallel()
	table, err := routes.Load("prefix")
	if err != nil {
		t.Fatal(err)
	}
	before := split(t, "prefix")
	for _, c := range []struct {
		name   string
		change func(*envoy.Settings)
		want   string
	}{
		{"an origin", func(s *envoy.Settings) { s.CORSOrigins = []string{"https://app.example"} }, "routes only"},
		{"where a service is", func(s *envoy.Settings) { s.QueryURL = "http://127.0.0.2:8002" }, "clusters, routes"},
		{"where authz is", func(s *envoy.Settings) { s.Authz = "unix:///run/authz.sock" }, "clusters"},
		{"the silence of streams", func(s *envoy.Settings) { s.StreamIdleTimeout *= 2 }, "listener (connections are drained)"},
		{"the memory", func(s *envoy.Settings) { s.MemoryLimit *= 2 }, "bootstrap (restart Envoy for it)"},
		{"the port of the public", func(s *envoy.Settings) { s.Listen = "0.0.0.0:8443" }, "listener (connections are drained)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := envoy.DefaultSettings()
			c.change(&s)
			after, err := envoy.Split(table, s, watchedDir)
			if err != nil {
				t.Fatal(err)
			}
			if got := envoy.Effect(before, after); got != c.want {
				t.Errorf("the effect is %q, want %q", got, c.want)
			}
		})
	}
}

func TestFilesThatDoNotBelongTogetherAreNotJoined(t *testing.T) {
	t.Parallel()
	swap := func(file, old, now string) func(envoy.Files) {
		return func(f envoy.Files) { f[file] = bytes.ReplaceAll(f[file], []byte(old), []byte(now)) }
	}
	whole := split(t, "prefix")
	for _, c := range []struct {
		name  string
		spoil func(envoy.Files)
		want  string
	}{
		{"one is missing", func(f envoy.Files) { delete(f, envoy.FileRoutes) }, "rds.yaml is missing or empty"},
		{"one is empty", func(f envoy.Files) { f[envoy.FileClusters] = []byte("\n") }, "cds.yaml is missing or empty"},
		{"one has a field that Envoy does not know", swap(envoy.FileClusters, "connect_timeout:", "connect_timeouts:"), "connect_timeouts"},
		{"one has another's content", func(f envoy.Files) { f[envoy.FileClusters] = f[envoy.FileRoutes] }, "reading cds.yaml"},
		{"one breaks a rule of the API", swap(envoy.FileRoutes, "http_status: 404", "http_status: 99"), "HttpStatus"},
		{"the bootstrap names another file", swap(envoy.FileBootstrap, "/cds.yaml", "/lds.yaml"), `names the file "lds.yaml" where cds.yaml belongs`},
		{"the listener asks for no routes of ours", swap(envoy.FileListeners, "route_config_name: edge", "route_config_name: other"), `asks for routes "other"`},
		{"the routes are somebody else's", swap(envoy.FileRoutes, "  name: edge\n", "  name: other\n"), "want one route configuration, of the name edge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(whole)
			c.spoil(files)
			if _, err := files.Join(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
}

func TestAWrongTableOrSettingIsNotSplit(t *testing.T) {
	t.Parallel()
	table, err := routes.Load("prefix")
	if err != nil {
		t.Fatal(err)
	}
	s := envoy.DefaultSettings()
	s.MaxConnections = 0
	if files, err := envoy.Split(table, s, watchedDir); err == nil || files != nil {
		t.Errorf("%v, want the fault and no files", err)
	}
	table.Routes = append(table.Routes, table.Routes[0])
	if files, err := envoy.Split(table, envoy.DefaultSettings(), watchedDir); err == nil || files != nil {
		t.Errorf("%v, want the fault and no files", err)
	}
}
