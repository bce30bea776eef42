package lint

import (
	"fmt"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// routes judges what routes switch off, and in which order.
func (c *checker) routes(r *routev3.RouteConfiguration, at string) {
	c.lateStrip(r.GetRequestHeadersToRemove(), at)
	if isOff(r.GetTypedPerFilterConfig()) {
		c.find("open-everything", at, "ext_authz is off for the whole route configuration")
	}
	for i, host := range r.GetVirtualHosts() {
		here := index(join(at, "virtual_hosts"), i)
		c.lateStrip(host.GetRequestHeadersToRemove(), here)
		if isOff(host.GetTypedPerFilterConfig()) {
			c.find("open-everything", here, "ext_authz is off for the virtual host %q", host.GetName())
		}
		c.mode(host.GetTypedPerFilterConfig(), here)
		for j, route := range host.GetRoutes() {
			at := index(join(here, "routes"), j)
			c.lateStrip(route.GetRequestHeadersToRemove(), at)
			c.mode(route.GetTypedPerFilterConfig(), at)
			c.routeUpgrades(route.GetRoute().GetUpgradeConfigs(), at)
			if !isOpen(route) {
				continue
			}
			c.report.Open = append(c.report.Open, Open{Line: c.src.line(at), Where: at, Route: route.GetName(), Match: describe(route.GetMatch())})
			c.open(route, host.GetRoutes()[j+1:], at)
		}
	}
}

func (c *checker) lateStrip(names []string, at string) {
	for _, name := range names {
		if slices.Contains(identityHeaders, strings.ToLower(name)) {
			c.find("identity-headers-stripped-late", at, "request_headers_to_remove: %s", name)
		}
	}
}

// perRoute is what routes say to ext_authz, whatever name it has in the chain.
func perRoute(filters map[string]*anypb.Any) []*authzv3.ExtAuthzPerRoute {
	var out []*authzv3.ExtAuthzPerRoute
	for _, packed := range filters {
		if wrapped := new(routev3.FilterConfig); packed.MessageIs(wrapped) && packed.UnmarshalTo(wrapped) == nil {
			packed = wrapped.GetConfig()
		}
		if p := new(authzv3.ExtAuthzPerRoute); packed != nil && packed.MessageIs(p) && packed.UnmarshalTo(p) == nil {
			out = append(out, p)
		}
	}
	return out
}

func isOff(filters map[string]*anypb.Any) bool {
	for name, packed := range filters {
		wrapped := new(routev3.FilterConfig)
		if strings.Contains(name, "ext_authz") && packed.MessageIs(wrapped) && packed.UnmarshalTo(wrapped) == nil && wrapped.GetDisabled() {
			return true
		}
	}
	return slices.ContainsFunc(perRoute(filters), (*authzv3.ExtAuthzPerRoute).GetDisabled)
}

func authMode(filters map[string]*anypb.Any) (string, bool) {
	for _, p := range perRoute(filters) {
		if mode, ok := p.GetCheckSettings().GetContextExtensions()["auth_mode"]; ok {
			return mode, true
		}
	}
	return "", false
}

func (c *checker) mode(filters map[string]*anypb.Any, at string) {
	if mode, ok := authMode(filters); ok && !slices.Contains([]string{"strict", "initial", "none"}, mode) {
		c.find("unknown-mode", at, "auth_mode: %q", mode)
	}
}

// isOpen reports whether a route leads to an upstream without a check.
func isOpen(r *routev3.Route) bool {
	mode, _ := authMode(r.GetTypedPerFilterConfig())
	return r.GetRoute() != nil && (isOff(r.GetTypedPerFilterConfig()) || mode == "none")
}

func (c *checker) open(route *routev3.Route, behind []*routev3.Route, at string) {
	m := route.GetMatch()
	prefix, textual := m.GetPathSpecifier().(*routev3.RouteMatch_Prefix)
	switch {
	case textual && (prefix.Prefix == "/" || prefix.Prefix == "") && len(m.GetHeaders()) == 0:
		c.find("open-everything", at, "ext_authz is off for prefix %q", prefix.Prefix)
		return
	case textual && !strings.HasSuffix(prefix.Prefix, "/"):
		c.find("open-prefix", at, "ext_authz is off for prefix %q", prefix.Prefix)
	}
	for _, later := range behind {
		if later.GetRoute() == nil || isOpen(later) || !takes(m, later.GetMatch()) {
			continue
		}
		c.find("open-before-guarded", at, "it stands before %s", orMatch(later))
		return
	}
}

// takes reports whether the first of two matches takes requests of the second
// away. Where headers are asked for, they must be the same ones, or none.
func takes(first, second *routev3.RouteMatch) bool {
	if len(first.GetHeaders()) > 0 {
		// Different methods, most of the time; not enough to accuse somebody.
		return false
	}
	path := literal(second)
	if path == "" {
		return false
	}
	switch p := first.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		return strings.HasPrefix(path, p.Prefix)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		return path == p.PathSeparatedPrefix || strings.HasPrefix(path, p.PathSeparatedPrefix+"/")
	case *routev3.RouteMatch_Path:
		_, exact := second.GetPathSpecifier().(*routev3.RouteMatch_Path)
		return exact && path == p.Path
	}
	return false
}

func literal(m *routev3.RouteMatch) string {
	return m.GetPath() + m.GetPrefix() + m.GetPathSeparatedPrefix()
}

func orMatch(r *routev3.Route) string {
	if r.GetName() != "" {
		return fmt.Sprintf("route %q", r.GetName())
	}
	return describe(r.GetMatch())
}

// describe is a match in a few words.
func describe(m *routev3.RouteMatch) string {
	var out string
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		out = "path " + p.Path
	case *routev3.RouteMatch_Prefix:
		out = "prefix " + p.Prefix
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out = "prefix " + p.PathSeparatedPrefix
	case *routev3.RouteMatch_SafeRegex:
		out = "regex " + p.SafeRegex.GetRegex()
	default:
		out = "another kind of match"
	}
	for _, h := range m.GetHeaders() {
		if h.GetName() == ":method" {
			s := h.GetStringMatch()
			out = s.GetExact() + s.GetSafeRegex().GetRegex() + " " + out
		}
	}
	return out
}

func (c *checker) upgrades(list []*managerv3.HttpConnectionManager_UpgradeConfig, at string) {
	for i, u := range list {
		here := index(join(at, "upgrade_configs"), i)
		if len(u.GetFilters()) > 0 && !slices.ContainsFunc(u.GetFilters(), func(f *managerv3.HttpFilter) bool { return packed[authzv3.ExtAuthz](f) != nil }) {
			c.find("upgrade-filters", here, "%s has filters of its own, without ext_authz", u.GetUpgradeType())
		}
		if !strings.EqualFold(u.GetUpgradeType(), "websocket") && (u.GetEnabled() == nil || u.GetEnabled().GetValue()) {
			c.find("upgrade-type", here, "upgrade_type: %s", u.GetUpgradeType())
		}
	}
}

func (c *checker) routeUpgrades(list []*routev3.RouteAction_UpgradeConfig, at string) {
	for i, u := range list {
		if !strings.EqualFold(u.GetUpgradeType(), "websocket") && (u.GetEnabled() == nil || u.GetEnabled().GetValue()) {
			c.find("upgrade-type", index(join(at, "route.upgrade_configs"), i), "upgrade_type: %s", u.GetUpgradeType())
		}
	}
}
