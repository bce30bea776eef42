package authz

// Router knows what a request asks for by its method and path, where the proxy does
// not say (meshes without context extensions). It must not wait.
type Router interface {
	// Route is asked with the path as the proxy sent it, without the query. Of what
	// it does not know it returns the zero Route.
	Route(method, path string) Route
}

// Route is what a route would say of itself as context extensions, and is read
// alike: the zero Route is strict.
type Route struct {
	Name  string // for metrics
	Mode  string // "strict", "initial" or "none"
	Roles string // comma-separated; empty: none asked for
}

// locate asks the router about a check of which the proxy said nothing. Where it
// said anything, in as little as a name, it knows routes, and what it left out is
// strict.
func (g *Gate) locate(r *request) {
	if g.router == nil || r.told {
		return
	}
	route := g.router.Route(r.method, r.path)
	r.route, r.mode, r.roles = printable(route.Name), route.Mode, route.Roles
}
