package config

// Where authz reads what a route asks for.
const (
	RouteSourceExtensions = "extensions"
	RouteSourcePath       = "path"
)

func routeRows() []row {
	return []row{
		{
			name: "ROUTE_SOURCE", fallback: RouteSourceExtensions, by: NeedAuthz,
			meaning: "Where authz reads what a route asks for: `extensions`, the context extensions that Envoy sends; `path`, for meshes that send none, the route table, by method and path ([manual](routes.md)). An extension counts all the same.",
			read:    into(oneOf(RouteSourceExtensions, RouteSourcePath), func(s *Settings) *string { return &s.Edge.RouteSource }),
		},
	}
}
