package lint

import (
	"regexp"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// authorization judges the ext_authz filter itself.
func (c *checker) authorization(a *authzv3.ExtAuthz, at string) {
	if a.GetFailureModeAllow() {
		c.find("failure-mode-allow", at, "failure_mode_allow: true")
	}
	if a.GetFilterEnabled() != nil || a.GetFilterEnabledMetadata() != nil || a.GetDenyAtDisable() != nil {
		c.find("authorization-off", at, "filter_enabled, filter_enabled_metadata or deny_at_disable is set")
	}
	if e := a.GetEnableDynamicMetadataIngestion(); e != nil && !e.GetValue() {
		c.find("metadata-not-taken", at, "enable_dynamic_metadata_ingestion: false")
	}
	if code := a.GetStatusOnError().GetCode(); code < 500 || code > 599 {
		c.find("status-on-error", at, "status_on_error is %s", code)
	}
	if a.GetClearRouteCache() {
		c.find("route-cache-cleared", at, "clear_route_cache: true")
	}
	if a.GetWithRequestBody() != nil {
		c.find("body-sent-to-authz", join(at, "with_request_body"), "with_request_body is set")
	}
	if !a.GetValidateMutations() {
		c.find("mutations-not-validated", at, "validate_mutations is not true")
	}
	c.sentHeaders(a, at)
	c.headerRules(a, at)

	service := a.GetGrpcService()
	if service == nil || a.GetTransportApiVersion() != corev3.ApiVersion_V3 {
		c.find("not-grpc", at, "services is not grpc_service, or transport_api_version not V3")
	}
	if service != nil {
		c.service(service, join(at, "grpc_service"))
	}
}

func listed(l *matcherv3.ListStringMatcher, name string) bool {
	for _, p := range l.GetPatterns() {
		if matches(p, name) {
			return true
		}
	}
	return false
}

func (c *checker) sentHeaders(a *authzv3.ExtAuthz, at string) {
	if a.GetAllowedHeaders() == nil || listed(a.GetAllowedHeaders(), "cookie") {
		c.find("all-headers-sent", at, "allowed_headers is not set, or takes cookie in")
	}
	if a.GetAllowedHeaders() != nil && !listed(a.GetAllowedHeaders(), "authorization") || listed(a.GetDisallowedHeaders(), "authorization") {
		c.find("authorization-not-sent", at, "authorization is not among the allowed headers")
	}
}

func (c *checker) headerRules(a *authzv3.ExtAuthz, at string) {
	r := a.GetDecoderHeaderMutationRules()
	if r == nil {
		c.find("header-rules", at, "decoder_header_mutation_rules is not set")
		return
	}
	at = join(at, "decoder_header_mutation_rules")
	allowed := func(name string) bool {
		switch {
		case r.GetDisallowExpression() != nil && wholeMatch(r.GetDisallowExpression().GetRegex(), name):
			return false
		case r.GetAllowExpression() != nil && wholeMatch(r.GetAllowExpression().GetRegex(), name):
			return true
		}
		return !r.GetDisallowAll().GetValue()
	}
	var loose []string
	for _, name := range []string{"authorization", "host", "cookie", "x-admin", "x-forwarded-for", "x-original-url", ":path", ":method"} {
		if allowed(name) {
			loose = append(loose, name)
		}
	}
	if len(loose) > 0 {
		c.find("header-rules", at, "authz may set %s", strings.Join(loose, ", "))
	}
	if missing := without(identityHeaders, allowed); len(missing) > 0 {
		c.find("identity-headers-blocked", at, "authz may not set %s", strings.Join(missing, ", "))
	}
}

func (c *checker) service(s *corev3.GrpcService, at string) {
	const longest = 10 * time.Second
	timeout := s.GetTimeout().AsDuration()
	switch {
	case s.GetTimeout() == nil || timeout <= 0:
		c.find("no-timeout", at, "timeout is not set")
	case timeout > longest:
		c.find("long-timeout", at, "timeout: %v", timeout)
	}
	if b := s.GetRetryPolicy().GetRetryBackOff(); b != nil {
		perTry := 10 * b.GetBaseInterval().AsDuration()
		if b.GetMaxInterval() != nil {
			perTry = b.GetMaxInterval().AsDuration()
		}
		if perTry < timeout {
			c.find("backoff-shortens-timeout", join(at, "retry_policy.retry_back_off"), "a try ends after %v, timeout is %v", perTry, timeout)
		}
	}
	name := s.GetEnvoyGrpc().GetClusterName()
	if name == "" {
		return // google_grpc connects by itself
	}
	cluster, ok := c.clusters[name]
	switch {
	case ok:
		c.authzCluster(cluster.m, cluster.at)
	case !c.moreByCDS:
		c.find("authz-cluster-missing", at, "no cluster %q", name)
	}
}

func (c *checker) authzCluster(m *clusterv3.Cluster, at string) {
	http2 := m.GetHttp2ProtocolOptions() != nil //nolint:staticcheck // still met in the wild
	for _, o := range m.GetTypedExtensionProtocolOptions() {
		options := new(httpv3.HttpProtocolOptions)
		if !o.MessageIs(options) || o.UnmarshalTo(options) != nil {
			continue
		}
		if options.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil || options.GetUseDownstreamProtocolConfig().GetHttp2ProtocolOptions() != nil ||
			options.GetAutoConfig() != nil {
			http2 = true
		}
	}
	if !http2 {
		c.find("authz-cluster-http1", at, "cluster %q has no http2_protocol_options", m.GetName())
	}
	if panics := m.GetCommonLbConfig().GetHealthyPanicThreshold(); len(m.GetHealthChecks()) > 0 && (panics == nil || panics.GetValue() != 0) {
		c.find("authz-cluster-panic", at, "healthy_panic_threshold is not 0")
	}
}

// wholeMatch is how Envoy matches: at both ends.
func wholeMatch(expression, text string) bool {
	re, err := regexp.Compile(`^(?:` + expression + `)$`)
	return err == nil && re.MatchString(text)
}
