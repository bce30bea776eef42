// Package routing answers authz, which asks about a method and a path, out of the
// route table, which knows them.
//
// It must never know how either of them works.
package routing

import (
	"strings"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/envoy/routes"
)

// Router is an authz.Router. It may be used by any number of goroutines and
// allocates nothing.
type Router struct {
	index   *routes.Index
	known   map[*routes.Route]authz.Route
	unnamed authz.Route
}

// nobody asks for a role and names none.
const nobody = ","

// New makes a router of a table that was read without faults.
//
// What the table does not name is strict. Where any route of the table asks for
// roles it admits nobody: behind a proxy that forwards what the table would have
// answered with a 404 or a 405, /reports/ may be /reports, and HEAD may be GET, to
// the service that gets them, and the role would be a matter of spelling.
func New(t routes.Table) *Router {
	r := &Router{index: t.Index(), known: map[*routes.Route]authz.Route{}}
	for route := range r.index.Routes() {
		if len(route.Roles) > 0 {
			r.unnamed.Roles = nobody
		}
		if route.Answer == nil {
			r.known[route] = authz.Route{Name: route.Name, Mode: route.Mode.String(), Roles: strings.Join(route.Roles, ",")}
		}
	}
	return r
}

// Route is what the table says of a request. A route that Envoy would answer itself
// is none.
func (r *Router) Route(method, path string) authz.Route {
	if route, found := r.index.Match(method, path); found == routes.Matched {
		if known, ok := r.known[route]; ok {
			return known
		}
	}
	return r.unnamed
}
