package envoy

import (
	"fmt"
	"slices"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atenex/gatehouse/envoy/routes"
)

// view is a configuration as an operator thinks of it: routes, upstreams, and
// the rest of the gate.
type view struct {
	order    []string
	routes   map[string]routeView
	clusters map[string]clusterView
	rest     map[string]string
}

type routeView struct {
	path    string
	methods []string // empty: every one
	mode    string
	roles   []string
	to      string // an upstream, or an answer
	maxBody int64  // 0: any
	rest    map[string]string
}

// String is a route in one line.
func (r routeView) String() string {
	methods := strings.Join(r.methods, ",")
	if methods == "" {
		methods = "any method"
	}
	out := fmt.Sprintf("%s %s (%s", methods, r.path, r.mode)
	if len(r.roles) > 0 {
		out += ", roles " + list(r.roles)
	}
	return out + ") leads to " + r.to
}

func viewOf(b *bootstrapv3.Bootstrap) (view, error) {
	v := view{routes: map[string]routeView{}, clusters: map[string]clusterView{}}
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.GetName() == routes.ReservedNowhere {
			continue
		}
		cluster, err := viewCluster(c)
		if err != nil {
			return view{}, err
		}
		v.clusters[c.GetName()] = cluster
	}
	bare, _ := proto.Clone(b).(*bootstrapv3.Bootstrap)
	if bare.StaticResources != nil {
		bare.StaticResources.Clusters = nil
	}
	for _, l := range bare.GetStaticResources().GetListeners() {
		for _, chain := range l.GetFilterChains() {
			for _, f := range chain.GetFilters() {
				m := new(managerv3.HttpConnectionManager)
				if !f.GetTypedConfig().MessageIs(m) || f.GetTypedConfig().UnmarshalTo(m) != nil {
					continue
				}
				for _, host := range m.GetRouteConfig().GetVirtualHosts() {
					if err := v.host(m, host); err != nil {
						return view{}, err
					}
					host.Routes = nil
				}
				if err := f.GetTypedConfig().MarshalFrom(m); err != nil {
					return view{}, fmt.Errorf("comparing configurations: %w", err)
				}
			}
		}
	}
	var err error
	v.rest, err = leavesOf(bare)
	return v, err
}

func (v *view) host(m *managerv3.HttpConnectionManager, host *routev3.VirtualHost) error {
	asked := slices.ContainsFunc(m.GetHttpFilters(), func(f *managerv3.HttpFilter) bool {
		return f.GetTypedConfig().MessageIs(&authzv3.ExtAuthz{})
	})
	limits := map[string]int64{}
	for _, r := range host.GetRoutes() {
		// What the renderer adds to a route follows from the route.
		switch status := answerStatus(r); {
		case status == 405 && strings.HasSuffix(r.GetName(), "-other-methods"):
			continue
		case status == 413 && strings.HasSuffix(r.GetName(), "-too-large"):
			for _, h := range r.GetMatch().GetHeaders() {
				if at := h.GetRangeMatch(); at != nil {
					limits[strings.TrimSuffix(r.GetName(), "-too-large")] = at.GetStart() - 1
				}
			}
			continue
		}
		limit := limits[r.GetName()]
		if _, again := v.routes[r.GetName()]; again && limit > 0 {
			continue // the half of it that is held
		}
		one, err := viewRoute(r, host, asked)
		if err != nil {
			return err
		}
		one.maxBody = limit
		name := r.GetName()
		if name == "" {
			name = strings.TrimSpace(strings.Join(one.methods, ",") + " " + one.path)
		}
		for base, n := name, 2; ; n++ {
			if _, taken := v.routes[name]; !taken {
				break
			}
			name = fmt.Sprintf("%s (%d)", base, n)
		}
		v.order = append(v.order, name)
		v.routes[name] = one
	}
	return nil
}

func viewRoute(r *routev3.Route, host *routev3.VirtualHost, asked bool) (routeView, error) {
	out := routeView{path: pathOf(r.GetMatch()), to: r.GetRoute().GetCluster()}
	if status := answerStatus(r); status != 0 {
		out.to = fmt.Sprintf("an answer of %d", status)
	}
	out.mode, out.roles = demands(r, host, asked)

	bare, _ := proto.Clone(r).(*routev3.Route)
	bare.Name = ""
	match := bare.GetMatch()
	match.PathSpecifier = nil
	match.Headers = slices.DeleteFunc(match.GetHeaders(), func(h *routev3.HeaderMatcher) bool {
		if h.GetName() == ":method" {
			s := h.GetStringMatch()
			out.methods = append(out.methods, strings.FieldsFunc(s.GetExact()+s.GetSafeRegex().GetRegex(), func(c rune) bool { return c == '|' })...)
			return true
		}
		return h.GetName() == "content-length" && h.GetPresentMatch()
	})
	if bare.GetRoute() != nil {
		bare.GetRoute().ClusterSpecifier = nil
		// It follows from the upstream's address.
		bare.GetRoute().HostRewriteSpecifier = nil
	}
	delete(bare.TypedPerFilterConfig, filterAuthz)
	delete(bare.TypedPerFilterConfig, filterRBAC)
	if answerStatus(r) != 0 {
		bare.Action = nil
		delete(bare.TypedPerFilterConfig, filterFault)
	}
	var err error
	out.rest, err = leavesOf(bare)
	return out, err
}

// demands are the mode and the roles of a route, as authz is told them.
func demands(r *routev3.Route, host *routev3.VirtualHost, asked bool) (mode string, roles []string) {
	if !asked {
		return routes.None.String(), nil
	}
	mode = routes.Strict.String()
	for _, packed := range []*anypb.Any{host.GetTypedPerFilterConfig()[filterAuthz], r.GetTypedPerFilterConfig()[filterAuthz]} {
		per := new(authzv3.ExtAuthzPerRoute)
		if packed == nil || packed.UnmarshalTo(per) != nil {
			continue
		}
		if per.GetDisabled() {
			mode, roles = routes.None.String(), nil
			continue
		}
		extensions := per.GetCheckSettings().GetContextExtensions()
		if m, ok := extensions["auth_mode"]; ok {
			mode = m
		}
		roles = nil
		if extensions["roles"] != "" {
			roles = strings.Split(extensions["roles"], ",")
		}
	}
	return mode, roles
}

// answerStatus is the status of a fixed answer; 0: the route leads somewhere.
func answerStatus(r *routev3.Route) uint32 {
	if d := r.GetDirectResponse(); d != nil {
		return d.GetStatus()
	}
	fault := new(faultv3.HTTPFault)
	packed := r.GetTypedPerFilterConfig()[filterFault]
	if packed == nil || packed.UnmarshalTo(fault) != nil || r.GetRoute().GetCluster() != routes.ReservedNowhere {
		return 0
	}
	return fault.GetAbort().GetHttpStatus()
}

func pathOf(m *routev3.RouteMatch) string {
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		return p.Path
	case *routev3.RouteMatch_Prefix:
		return p.Prefix + "*"
	case *routev3.RouteMatch_PathSeparatedPrefix:
		return p.PathSeparatedPrefix + "/*"
	case *routev3.RouteMatch_SafeRegex:
		return strings.ReplaceAll(p.SafeRegex.GetRegex(), routes.UUIDPattern, routes.UUIDSegment)
	}
	return "another kind of match"
}
