package envoy

import (
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atenex/gatehouse/envoy/routes"
)

// guard is what a route tells the filters about itself. A route of mode none is
// the only one that switches anything off.
func guard(t routes.Table, r routes.Route, s Settings) map[string]*anypb.Any {
	out := map[string]*anypb.Any{}
	if grpcWeb(t) && !t.Upstreams[r.Upstream].GRPCWeb {
		// A service that knows gRPC-Web itself gets it as it is.
		out[filterGRPCWeb] = pack(&routev3.FilterConfig{Disabled: true})
	}
	if r.Mode == routes.None {
		out[filterAuthz] = pack(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
		out[filterRBAC] = pack(&rbacv3.RBACPerRoute{})
	} else {
		extensions := map[string]string{"auth_mode": r.Mode.String(), "route": r.Name}
		if len(r.Roles) > 0 {
			extensions["roles"] = strings.Join(r.Roles, ",")
		}
		out[filterAuthz] = pack(checked(extensions))
	}
	rate := r.Rate
	if r.RateLimit {
		rate = s.LoginRate
	}
	if !rate.Off() {
		out[filterRateLimit] = pack(perClient(r.Name, rate))
	}
	if len(r.Headers.Forward) > 0 {
		out[filterHeaders] = pack(&mutationv3.HeaderMutationPerRoute{Mutations: onlyForwarded(r.Headers.Forward)})
	}
	return out
}

// checked hands authz the words that it decides by.
func checked(extensions map[string]string) *authzv3.ExtAuthzPerRoute {
	return &authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_CheckSettings{
		CheckSettings: &authzv3.CheckSettings{ContextExtensions: extensions},
	}}
}

func abort(a routes.Answer) *faultv3.HTTPFault {
	return &faultv3.HTTPFault{
		Abort: &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: a.Status},
			Percentage: hundredPercent(),
		},
		DisableDownstreamClusterStats: true, // one statistic per client's word otherwise
	}
}

// maxClients bounds the addresses that are remembered; past it the one unseen
// for longest is forgotten. Envoy's default of 20 would let one client with 20
// addresses forget itself.
const maxClients = 10_000

// perClient is one bucket for each client address; an IPv6 client is its /64,
// all of which one machine may use at will.
func perClient(route string, rate routes.Rate) *ratelimitv3.LocalRateLimit {
	bucket := func(capacity, fill uint32) *typev3.TokenBucket {
		return &typev3.TokenBucket{MaxTokens: capacity, TokensPerFill: u32(fill), FillInterval: span(rate.Per)}
	}
	const everybody = 1 << 30 // the bucket of all clients together never runs dry
	return &ratelimitv3.LocalRateLimit{
		StatPrefix:                      strings.ReplaceAll(route, "-", "_"),
		TokenBucket:                     bucket(everybody, everybody),
		AlwaysConsumeDefaultTokenBucket: no(),
		FilterEnabled:                   always(), // both default to 0 %
		FilterEnforced:                  always(),
		MaxDynamicDescriptors:           u32(maxClients),
		RateLimits: []*routev3.RateLimit{{Actions: []*routev3.RateLimit_Action{{
			ActionSpecifier: &routev3.RateLimit_Action_MaskedRemoteAddress_{
				MaskedRemoteAddress: &routev3.RateLimit_Action_MaskedRemoteAddress{
					V4PrefixMaskLen: u32(32), V6PrefixMaskLen: u32(64),
				},
			},
		}}}},
		Descriptors: []*ratelimitcommonv3.LocalRateLimitDescriptor{{
			// No value: one bucket for each value that is met.
			Entries:     []*ratelimitcommonv3.RateLimitDescriptor_Entry{{Key: "masked_remote_address"}},
			TokenBucket: bucket(rate.Burst, rate.Requests),
		}},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{setHeader("retry-after", retryAfter(rate))},
	}
}

// retryAfter is the time in whole seconds until one more request may pass.
func retryAfter(r routes.Rate) string {
	one := r.Per / time.Duration(r.Requests)
	seconds := (one + time.Second - 1) / time.Second
	return strconv.Itoa(int(max(seconds, 1)))
}

// corsPolicy is one for all routes, because a preflight meets none of them.
func corsPolicy(t routes.Table, s Settings) (*anypb.Any, error) {
	o, err := s.origins()
	if err != nil {
		return nil, err
	}
	allow := "Authorization, Content-Type, Accept, Origin, X-Requested-With, ngrok-skip-browser-warning, X-Request-ID"
	expose := "X-Request-ID, X-Process-Time"
	if grpcWeb(t) {
		// What clients of gRPC-Web send; and where a refusal says what it is.
		allow += ", X-Grpc-Web, X-User-Agent, Grpc-Timeout"
		expose += ", Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin"
	}
	return pack(&corsv3.CorsPolicy{
		AllowOriginStringMatch: o.matchers(),
		AllowMethods:           "GET, POST, PUT, DELETE, PATCH, OPTIONS",
		AllowHeaders:           allow,
		ExposeHeaders:          expose,
		MaxAge:                 "600",
		AllowCredentials:       yes(),
		// Off, Envoy would answer the preflight of any origin with the list of
		// methods. On, it reaches the route foreignPreflight and no further.
		ForwardNotMatchingPreflights: yes(),
	}), nil
}
