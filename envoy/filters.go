package envoy

import (
	"slices"
	"time"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcwebv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/envoy/routes"
)

// Names of the filters that routes configure; Envoy finds a route's
// configuration by the name that the filter has in the chain.
const (
	filterCORS      = "envoy.filters.http.cors"
	filterGRPCWeb   = "envoy.filters.http.grpc_web"
	filterRateLimit = "envoy.filters.http.local_ratelimit"
	filterFault     = "envoy.filters.http.fault"
	filterAuthz     = "envoy.filters.http.ext_authz"
	filterRBAC      = "envoy.filters.http.rbac"
	filterBuffer    = "envoy.filters.http.buffer"
	filterBodyLimit = "gatehouse.body-limit" // a second fault filter, behind the buffer
	filterHeaders   = "gatehouse.route-headers"
)

// What authz says about a request travels as dynamic metadata in the namespace
// of the filter that asked. Only that filter writes there: the chain holds
// nothing that turns a client's bytes into metadata.
const (
	metadataNamespace = filterAuthz
	metadataOutcome   = "outcome"
	outcomeAllow      = "allow"
)

// authzTimeout bounds one decision. authz gives itself less, so that its own
// answer, which says more, arrives first.
const authzTimeout = 2 * time.Second

// httpFilters is the chain. The first filter sees a request first and its
// answer last, so each stands in front of everything whose answers it must
// still touch: X-Process-Time before all, CORS before all that may refuse, the
// translation of gRPC-Web too, so that refusals are translated as well, the
// rate limit before work is spent on the guess, fixed answers before a check
// that they do not need, and the mark of authz right before the upstream. What
// holds bodies comes after the check, so that no stranger fills the memory.
func httpFilters(t routes.Table, s Settings) []*managerv3.HttpFilter {
	chain := []*managerv3.HttpFilter{
		filter("gatehouse.answers", answerMutations()),
		filter(filterCORS, &corsv3.Cors{}),
	}
	if grpcWeb(t) {
		chain = append(chain, filter(filterGRPCWeb, &grpcwebv3.GrpcWeb{}))
	}
	chain = append(chain,
		filter(filterRateLimit, &ratelimitv3.LocalRateLimit{StatPrefix: "edge"}),
		filter(filterFault, &faultv3.HTTPFault{}),
		filter(filterAuthz, authorization(s)),
		filter(filterRBAC, markDemanded()),
	)
	if slices.ContainsFunc(t.Routes, func(r routes.Route) bool { return r.MaxBody > 0 }) {
		// Off but on the routes that turn it on; the limit here is never used.
		buffer, limit := filter(filterBuffer, &bufferv3.Buffer{MaxRequestBytes: u32(1)}), filter(filterBodyLimit, &faultv3.HTTPFault{})
		buffer.Disabled, limit.Disabled = true, true
		chain = append(chain, buffer, limit)
	}
	if slices.ContainsFunc(t.Routes, func(r routes.Route) bool { return len(r.Headers.Forward) > 0 }) {
		// After the check, which adds what passes always.
		headers := filter(filterHeaders, &mutationv3.HeaderMutation{})
		headers.Disabled = true
		chain = append(chain, headers)
	}
	return append(chain, filter("envoy.filters.http.router", &routerv3.Router{
		SuppressEnvoyHeaders: true,
		UpstreamHttpFilters:  upstreamFilters(),
	}))
}

// grpcWeb reports whether any service of the table is for browsers by gRPC-Web.
func grpcWeb(t routes.Table) bool {
	for _, u := range t.Upstreams {
		if u.GRPCWeb {
			return true
		}
	}
	return false
}

// upstreamFilters stand between the router and a service; a cluster that has
// some of its own replaces them all.
func upstreamFilters(more ...*managerv3.HttpFilter) []*managerv3.HttpFilter {
	return append(append([]*managerv3.HttpFilter{
		filter("gatehouse.upstream-answers", upstreamAnswerMutations()),
	}, more...), filter("envoy.filters.http.upstream_codec", &codecv3.UpstreamCodec{}))
}

func filter(name string, m proto.Message) *managerv3.HttpFilter {
	return &managerv3.HttpFilter{Name: name, ConfigType: &managerv3.HttpFilter_TypedConfig{TypedConfig: pack(m)}}
}

// varyMissing yields Origin where the answer does not vary by it yet. CORS
// itself never writes Vary, and a cache would give one origin's answer to
// another.
const varyMissing = `%CEL("vary" in response.headers && response.headers["vary"].matches("(?i)(^|.*[ ,])(origin|[*])([ ,].*|$)") ? "" : "Origin")%`

func answerMutations() *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Mutations: &mutationv3.Mutations{
		ResponseMutations: []*rulesv3.HeaderMutation{
			{Action: &rulesv3.HeaderMutation_Append{Append: setHeader("x-process-time", "%DURATION%ms")}},
			{Action: &rulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
				Header:       &corev3.HeaderValue{Key: "vary", Value: varyMissing},
				AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
			}}},
		},
	}}
}

// upstreamAnswerMutations take away what an upstream says about origins, before
// the CORS filter says it: two answers to one question, or one for an origin
// that is not allowed here. They stand between the router and the upstream; in
// the chain itself they would take the headers off preflights too, which the
// CORS filter answers and every later filter still sees.
func upstreamAnswerMutations() *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Mutations: &mutationv3.Mutations{
		ResponseMutations: []*rulesv3.HeaderMutation{
			{Action: &rulesv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &rulesv3.HeaderMutation_RemoveOnMatch{
				KeyMatcher: startingWith("access-control-")}}},
			{Action: &rulesv3.HeaderMutation_Remove{Remove: "keep-alive"}},
			{Action: &rulesv3.HeaderMutation_Remove{Remove: "proxy-authenticate"}},
			{Action: &rulesv3.HeaderMutation_Remove{Remove: "proxy-connection"}},
			{Action: &rulesv3.HeaderMutation_Remove{Remove: "te"}},
			{Action: &rulesv3.HeaderMutation_Remove{Remove: "trailer"}},
		},
	}}
}

// authorization asks authz about every request whose route does not say
// otherwise. Everything that is not an answer is a 503.
func authorization(s Settings) *authzv3.ExtAuthz {
	retry := &corev3.RetryPolicy{
		// A decision changes nothing, so that one that got lost with its replica
		// may be asked for again. Time-outs are not among these: the time is that of
		// all tries together.
		RetryOn:    "connect-failure,refused-stream,reset,unavailable",
		NumRetries: u32(2),
		RetryBackOff: &corev3.BackoffStrategy{
			BaseInterval: span(20 * time.Millisecond),
			// Envoy takes this for the time-out of a single try too: any
			// less, and a slow decision is cut off before its time.
			MaxInterval: span(authzTimeout),
		},
	}
	if mayHaveReplicas(s.Authz) {
		retry.RetryHostPredicate = []*corev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
		}}
		// Of two replicas picked at random the idler one is taken, and a dead
		// one is idle: it is turned down many times in a row.
		retry.HostSelectionRetryMaxAttempts = 64
	}
	return &authzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		StatPrefix:          "gatehouse",
		FailureModeAllow:    false,
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		ClearRouteCache:     false, // a header from authz must not choose another route
		ValidateMutations:   true,
		// authz may write the identity and say how long the exchange may last (which
		// the router keeps to itself), and nothing else, were it taken over.
		DecoderHeaderMutationRules: &rulesv3.HeaderMutationRules{
			DisallowAll:     yes(),
			AllowExpression: regex("x-user-id|x-company-id|x-user-email|x-envoy-upstream-stream-duration-ms"),
			DisallowIsError: yes(),
		},
		AllowedHeaders: &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{
			exactly("authorization"),
			exactly("x-request-id"),
			exactly("traceparent"),
			exactly("tracestate"),
		}},
		// No with_request_body: it would buffer uploads and answer 413.
		EnableDynamicMetadataIngestion: yes(),
		EmitFilterStateStats:           true,
		ChargeClusterResponseStats:     no(), // a 401 is no fault of the upstream
		MaxDeniedResponseBodyBytes:     4096,
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: routes.ReservedAuthz,
				Authority:   routes.ReservedAuthz,
				// authz reads no x-envoy-* of a check; each of them costs both sides.
				SkipEnvoyHeaders: true,
			}},
			Timeout:     span(authzTimeout),
			RetryPolicy: retry,
		}},
	}
}

// markDemanded lets nothing through that authz has not marked as allowed. To
// ext_authz an empty answer is an allow, and so is one from a server that is
// not ours; a filter that was switched off by mistake asks nobody at all.
func markDemanded() *rbacv3.RBAC {
	return &rbacv3.RBAC{
		Rules: &rbacconfigv3.RBAC{
			Action: rbacconfigv3.RBAC_ALLOW,
			Policies: map[string]*rbacconfigv3.Policy{
				"marked-allow-by-authz": {
					Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
					Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_SourcedMetadata{
						SourcedMetadata: &rbacconfigv3.SourcedMetadata{
							MetadataMatcher: metadata(metadataNamespace, metadataOutcome, exactly(outcomeAllow)),
							MetadataSource:  rbacconfigv3.MetadataSource_DYNAMIC,
						},
					}}},
				},
			},
		},
	}
}

func metadata(namespace, key string, value *matcherv3.StringMatcher) *matcherv3.MetadataMatcher {
	return &matcherv3.MetadataMatcher{
		Filter: namespace,
		Path: []*matcherv3.MetadataMatcher_PathSegment{{
			Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key},
		}},
		Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: value}},
	}
}
