package authz_test

import (
	"math"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// router is a route table, as a function.
type router func(method, path string) authz.Route

func (r router) Route(method, path string) authz.Route { return r(method, path) }

// byPath is a table of which the paths say it all: /MODE/ROLES.
var byPath = router(func(method, path string) authz.Route {
	mode, roles, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return authz.Route{Name: "by-" + method, Mode: mode, Roles: roles}
})

// untold is a check of a proxy that knows nothing of routes.
func untold(verb, target, authorization string) *authv3.CheckRequest {
	return request(authorization, method(verb), func(in *authv3.CheckRequest) {
		in.Attributes.ContextExtensions = nil
		in.Attributes.Request.Http.Path = target
	})
}

func TestARouterIsAskedWhereTheProxySaysNothing(t *testing.T) {
	alone := bearer("") // acts for no company
	extended := func(in *authv3.CheckRequest, extensions map[string]string) *authv3.CheckRequest {
		in.Attributes.ContextExtensions = extensions
		return in
	}
	type ext = map[string]string
	for _, c := range []struct {
		name string
		in   *authv3.CheckRequest
		want string
	}{
		{"a route of mode none", untold("GET", "/none", ""), "ok"},
		{"a query is no part of the path", untold("GET", "/none?a=/strict", ""), "ok"},
		{"a query that looks like a path", untold("GET", "/strict?/none", ""), "not_authenticated"},
		{"a route of mode initial", untold("GET", "/initial", alone), "ok"},
		{"a strict route", untold("GET", "/strict", alone), "company_missing"},
		{"a mode that is none", untold("GET", "/open", alone), "company_missing"},
		{"no path", untold("GET", "", alone), "company_missing"},
		{"roles that the user has not", untold("GET", "/strict/admin", inCompany()), "role_insufficient"},
		{"roles that the user has", untold("GET", "/strict/admin,user", inCompany()), "ok"},
		{"roles that name nobody", untold("GET", "/strict/,", inCompany()), "role_insufficient"},
		{"a preflight is asked for a token like anything else", untold("OPTIONS", "/strict", ""), "not_authenticated"},
		{"the extension counts, where there is one", extended(untold("GET", "/none", ""), ext{"auth_mode": "strict"}), "not_authenticated"},
		{"and opens what the table guards", extended(untold("GET", "/strict", ""), ext{"auth_mode": "none"}), "ok"},
		{"a mode of no text is a mode too", extended(untold("GET", "/none", ""), ext{"auth_mode": ""}), "not_authenticated"},
		{"a name alone is word of the route", extended(untold("GET", "/none", ""), ext{"route": "query"}), "not_authenticated"},
		{"roles alone are", extended(untold("GET", "/none", ""), ext{"roles": ""}), "not_authenticated"},
		{"somebody else's extensions are not", extended(untold("GET", "/none", ""), ext{"virtual_host": "x"}), "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, token.Rules{}, saying(member()))
			o.Router = byPath
			if got := reason(alike(t, bothPaths(t, o), wire(t, c.in))); got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
		})
	}
	t.Run("without a router such a check is strict", func(t *testing.T) {
		if got := reason(alike(t, bothPaths(t, options(t, token.Rules{}, saying(member()))), wire(t, untold("GET", "/none", "")))); got != "not_authenticated" {
			t.Errorf("reason %q", got)
		}
	})
	t.Run("a path that is no text is none", func(t *testing.T) {
		o := options(t, token.Rules{}, saying(member()))
		o.Router = byPath
		asked := strings.Replace(wire(t, untold("GET", "/none/x", "")), "/none/x", "/none\xff\xfe", 1)
		if got := reason(alike(t, bothPaths(t, o), asked)); got != "not_authenticated" {
			t.Errorf("reason %q", got)
		}
	})
	t.Run("a router that panics lets nobody pass", func(t *testing.T) {
		o := options(t, token.Rules{}, saying(member()))
		o.Router = router(nil)
		if got := reason(alike(t, bothPaths(t, o), wire(t, untold("GET", "/none", "")))); got != "internal" {
			t.Errorf("reason %q", got)
		}
	})
	t.Run("the route is counted by the name of the table", func(t *testing.T) {
		o := options(t, token.Rules{}, saying(member()))
		registry := prometheus.NewRegistry()
		o.Router, o.Registerer = byPath, registry
		check(t, newGate(t, o), untold("PUT", "/none", ""))
		if counts, _ := decisions(t, registry); counts["allow ok by-PUT"] != 1 {
			t.Errorf("counted: %v", counts)
		}
	})
}

// A check that comes with a path alone must not cost more memory than any other.
func TestARouterCostsNoMemory(t *testing.T) {
	o := options(t, token.Rules{}, saying(member()))
	known := member()
	o.Memory = memory(func(identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, bool) {
		return known, true
	})
	o.Router = router(func(_, path string) authz.Route {
		if path == "/initial" {
			return authz.Route{Name: "query", Mode: "initial", Roles: "user"}
		}
		return authz.Route{}
	})
	g := newGate(t, o)
	into := make([]byte, 0, 1024)
	// The fewest of some runs: the race detector throws away some of what is kept.
	allocations := func(in *authv3.CheckRequest) float64 {
		asked := wire(t, in)
		fewest := math.Inf(1)
		for range 50 {
			fewest = min(fewest, testing.AllocsPerRun(4, func() { g.Answer(t.Context(), asked, into) }))
		}
		return fewest
	}
	told := allocations(request(inCompany()))
	if got := allocations(untold("GET", "/initial?x=y", inCompany())); got != told {
		t.Errorf("%v allocations, %v with context extensions", got, told)
	}
}
