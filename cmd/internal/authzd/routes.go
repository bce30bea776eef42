package authzd

import (
	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/cmd/internal/routing"
	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/config"
)

// AddRoutes fills in what the route table says to a gate that is made by these
// settings. Its error is one of the settings.
func AddRoutes(o *authz.Options, s *config.Settings) error {
	table, err := wiring.RouteTable(s.Edge.Routes)
	if err != nil {
		return err
	}
	byPath := s.Edge.RouteSource == config.RouteSourcePath
	if byPath {
		o.Router = routing.New(table)
	}
	o.Routes = names(table, byPath)
	return nil
}

// names are those of the routes that authz is asked about. Our own Envoy does not
// ask about open ones; a mesh that knows no routes does.
func names(t routes.Table, open bool) []string {
	var out []string
	for _, r := range t.Routes {
		if r.Answer == nil && (open || r.Mode != routes.None) {
			out = append(out, r.Name)
		}
	}
	return out
}
