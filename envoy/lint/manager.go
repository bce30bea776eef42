package lint

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
)

// packed is what a filter of the chain is configured with; nil: something else.
func packed[M any, P interface {
	*M
	proto.Message
}](f *managerv3.HttpFilter) P {
	m := P(new(M))
	if !f.GetTypedConfig().MessageIs(m) || f.GetTypedConfig().UnmarshalTo(m) != nil {
		return nil
	}
	return m
}

// authorizationOf is the ext_authz of a chain and its place; -1: there is none.
func authorizationOf(m *managerv3.HttpConnectionManager) (int, *authzv3.ExtAuthz) {
	for i, f := range m.GetHttpFilters() {
		if a := packed[authzv3.ExtAuthz](f); a != nil {
			return i, a
		}
	}
	return -1, nil
}

// manager judges one listener's side of HTTP. It reports whether it asks authz;
// one that does not is judged no further.
func (c *checker) manager(m *managerv3.HttpConnectionManager, at string) bool {
	place, authz := authorizationOf(m)
	if authz == nil {
		return false
	}
	filter := index(join(at, "http_filters"), place)
	if f := m.GetHttpFilters()[place]; f.GetDisabled() || f.GetIsOptional() {
		c.find("authorization-off", filter, "disabled: %v, is_optional: %v", f.GetDisabled(), f.GetIsOptional())
	}
	c.authorization(authz, join(filter, "typed_config"))
	marked := false
	for i, f := range m.GetHttpFilters() {
		if r := packed[rbacv3.RBAC](f); r != nil && i > place && !f.GetDisabled() && demandsMark(r) {
			marked = true
		}
		if packed[corsv3.Cors](f) != nil && i > place {
			c.find("cors-behind-authorization", index(join(at, "http_filters"), i), "filter %d, behind ext_authz at %d", i, place)
		}
	}
	if !marked {
		c.find("no-mark-demanded", filter, "no filter behind it demands the mark")
	}
	c.edge(m, at)
	c.upgrades(m.GetUpgradeConfigs(), at)
	switch {
	case m.GetRouteConfig() != nil:
		c.routes(m.GetRouteConfig(), join(at, "route_config"))
	default:
		c.find("not-looked-into", at, "routes that arrive by RDS")
	}
	return true
}

// demandsMark reports whether every way through an RBAC asks for the outcome in
// the metadata of ext_authz.
func demandsMark(r *rbacv3.RBAC) bool {
	if r.GetRules().GetAction() != rbacconfigv3.RBAC_ALLOW || len(r.GetRules().GetPolicies()) == 0 {
		return false
	}
	for _, policy := range r.GetRules().GetPolicies() {
		for _, p := range policy.GetPrincipals() {
			if !principalDemands(p) {
				return false
			}
		}
	}
	return true
}

func principalDemands(p *rbacconfigv3.Principal) bool {
	m := p.GetSourcedMetadata().GetMetadataMatcher()
	if m == nil {
		m = p.GetMetadata() //nolint:staticcheck // still met in the wild
	}
	if m != nil {
		path := m.GetPath()
		return m.GetFilter() == "envoy.filters.http.ext_authz" && !m.GetInvert() &&
			len(path) == 1 && path[0].GetKey() == "outcome" && m.GetValue().GetStringMatch().GetExact() == "allow"
	}
	for _, id := range p.GetAndIds().GetIds() {
		if principalDemands(id) {
			return true
		}
	}
	ids := p.GetOrIds().GetIds()
	for _, id := range ids {
		if !principalDemands(id) {
			return false
		}
	}
	return len(ids) > 0
}

// edge is what a request must look like before anything is asked.
func (c *checker) edge(m *managerv3.HttpConnectionManager, at string) {
	if !m.GetNormalizePath().GetValue() {
		c.find("path-not-normalized", at, "normalize_path is not true")
	}
	if !m.GetMergeSlashes() {
		c.find("slashes-not-merged", at, "merge_slashes is not true")
	}
	switch action := m.GetPathWithEscapedSlashesAction(); action {
	case managerv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT, managerv3.HttpConnectionManager_KEEP_UNCHANGED:
		c.find("escaped-slashes", at, "path_with_escaped_slashes_action is %s", action)
	default:
	}
	if m.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction() == corev3.HttpProtocolOptions_ALLOW {
		c.find("underscores", at, "headers_with_underscores_action is ALLOW")
	}
	if i := m.GetInternalAddressConfig(); i != nil && len(i.GetCidrRanges()) == 0 {
		c.find("internal-addresses", join(at, "internal_address_config"), "no cidr_ranges")
	}
	if !m.GetUseRemoteAddress().GetValue() {
		c.find("peer-not-client", at, "use_remote_address is not true")
	}
	c.earlyStrip(m, at)
}

// The headers by which an upstream knows the user, and spellings that some
// upstreams fold into them.
//
//nolint:gochecknoglobals // constant tables
var (
	identityHeaders   = []string{"x-user-id", "x-company-id", "x-user-email"}
	identitySpellings = []string{"x.user.id", "xuserid", "x-user-id~", "x.company.id", "xcompanyid", "x.user.email", "xuseremail"}
)

func (c *checker) earlyStrip(m *managerv3.HttpConnectionManager, at string) {
	stripped := func(name string) bool {
		for _, e := range m.GetEarlyHeaderMutationExtensions() {
			h := new(earlyv3.HeaderMutation)
			if !e.GetTypedConfig().MessageIs(h) || e.GetTypedConfig().UnmarshalTo(h) != nil {
				continue
			}
			for _, mutation := range h.GetMutations() {
				if strings.EqualFold(mutation.GetRemove(), name) || matches(mutation.GetRemoveOnMatch().GetKeyMatcher(), name) {
					return true
				}
			}
		}
		return false
	}
	whole := true
	if missing := without(identityHeaders, stripped); len(missing) > 0 {
		whole = false
		c.find("identity-headers-not-stripped", at, "not removed early: %s", strings.Join(missing, ", "))
	}
	if missing := without(identitySpellings, stripped); whole && len(missing) > 0 {
		c.find("identity-spellings-not-stripped", at, "not removed early: %s", strings.Join(missing, ", "))
	}
}

func without(names []string, has func(string) bool) []string {
	var missing []string
	for _, n := range names {
		if !has(n) {
			missing = append(missing, n)
		}
	}
	return missing
}

// matches is how Envoy compares; an expression that we cannot read matches
// nothing.
func matches(m *matcherv3.StringMatcher, text string) bool {
	fold := func(s string) string {
		if m.GetIgnoreCase() {
			return strings.ToLower(s)
		}
		return s
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return fold(text) == fold(p.Exact)
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(fold(text), fold(p.Prefix))
	case *matcherv3.StringMatcher_Suffix:
		return strings.HasSuffix(fold(text), fold(p.Suffix))
	case *matcherv3.StringMatcher_Contains:
		return strings.Contains(fold(text), fold(p.Contains))
	case *matcherv3.StringMatcher_SafeRegex:
		return wholeMatch(p.SafeRegex.GetRegex(), text)
	}
	return false
}
