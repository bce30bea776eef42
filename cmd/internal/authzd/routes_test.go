package authzd

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/config"
)

func TestTheRouteTableDecidesWhereTheSettingsSaySo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, []byte(`
upstreams: { ingest: {} }
routes:
  - { name: files, prefix: /files, methods: [GET], mode: strict, upstream: ingest }
  - { name: health, path: /health, methods: [GET], mode: none, upstream: ingest }
  - { name: old, path: /old, answer: { status: 410, detail: Gone } }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		edge  config.Edge
		asked bool
		want  []string // names in metrics
	}{
		{"extensions alone", config.Edge{Routes: file, RouteSource: config.RouteSourceExtensions}, false, []string{"files"}},
		{"the zero value", config.Edge{Routes: file}, false, []string{"files"}},
		{"the path", config.Edge{Routes: file, RouteSource: config.RouteSourcePath}, true, []string{"files", "health"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var o authz.Options
			if err := AddRoutes(&o, &config.Settings{Edge: c.edge}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(o.Routes, c.want) {
				t.Errorf("names %q, want %q", o.Routes, c.want)
			}
			if (o.Router != nil) != c.asked {
				t.Fatalf("a router: %v, want %v", o.Router != nil, c.asked)
			}
			if c.asked {
				if got, want := o.Router.Route("GET", "/health"), (authz.Route{Name: "health", Mode: "none"}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			}
		})
	}
	t.Run("a table with a fault is one of the settings", func(t *testing.T) {
		t.Parallel()
		err := AddRoutes(&authz.Options{}, &config.Settings{Edge: config.Edge{Routes: file + "x"}})
		if faults, ok := errors.AsType[config.Faults](err); !ok || faults[0].Setting != "GATEWAY_ROUTES" {
			t.Errorf("%v", err)
		}
	})
}
