package envoy

import (
	"time"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	requestidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"

	"github.com/atenex/gatehouse/envoy/routes"
)

// maxHeaders is what a request may have, Envoy's own and authz's included;
// identityRoom what authz adds at most.
const (
	maxHeaders   = 100
	identityRoom = 4
)

// connectionManager is the public side: what a request must look like before
// anything else is asked.
func connectionManager(t routes.Table, s Settings) (*managerv3.HttpConnectionManager, error) {
	configuration, err := routeConfiguration(t, s)
	if err != nil {
		return nil, err
	}
	traces, err := tracing(s)
	if err != nil {
		return nil, err
	}
	return &managerv3.HttpConnectionManager{
		StatPrefix:                 "edge",
		CodecType:                  managerv3.HttpConnectionManager_AUTO,
		ServerHeaderTransformation: managerv3.HttpConnectionManager_OVERWRITE,
		ServerName:                 s.ServerName,

		// Who is the client: the peer. internal_address_config stays unset on
		// purpose: an empty one means "every private address is trusted".
		UseRemoteAddress: yes(),
		// In the place of a peer on loopback Envoy would append an address of the
		// machine's; the routes append the peer's own.
		SkipXffAppend: true,

		// One spelling per path, before routing. What decodes to a slash is
		// refused: an upstream that decodes it would see another path than the
		// one that was authorised.
		NormalizePath:                yes(),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: managerv3.HttpConnectionManager_REJECT_REQUEST,
		StripTrailingHostDot:         true,

		MaxRequestHeadersKb: u32(60),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     span(300 * time.Second),
			MaxHeadersCount: u32(maxHeaders),
			// X_User_Id is X-User-ID to a CGI-minded upstream.
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_DROP_HEADER,
		},
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{
			// A method that Envoy never heard of is a 405 like any other, as it is
			// in HTTP/2; without this it is a 400 before there is a request.
			AllowCustomMethods: true,
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:                    u32(100),
			InitialStreamWindowSize:                 u32(bufferLimit),
			InitialConnectionWindowSize:             u32(1 << 20),
			OverrideStreamErrorOnInvalidHttpMessage: yes(),
		},
		// A client that dribbles its headers is cut off; a body may take as long
		// as it moves.
		RequestHeadersTimeout: span(10 * time.Second),
		RequestTimeout:        span(0),
		StreamIdleTimeout:     span(s.StreamIdleTimeout),
		DelayedCloseTimeout:   span(time.Second),
		DrainTimeout:          span(5 * time.Second),

		GenerateRequestId:            yes(),
		PreserveExternalRequestId:    true,
		AlwaysSetRequestIdInResponse: true,
		RequestIdExtension:           &managerv3.RequestIDExtension{TypedConfig: pack(requestIDs(s))},

		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{
			extension("envoy.http.early_header_mutation.header_mutation", &earlyv3.HeaderMutation{
				Mutations: append(earlyMutations(), strangersTraces(s)...),
			}),
		},

		// Known but off: a route turns it on for itself. It must get no filter
		// list of its own, which would replace the chain, authorisation included.
		UpgradeConfigs: []*managerv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket", Enabled: no()}},

		Tracing:          traces,
		AccessLog:        accessLog(),
		LocalReplyConfig: localReplies(),
		HttpFilters:      httpFilters(t, s),
		RouteSpecifier:   &managerv3.HttpConnectionManager_RouteConfig{RouteConfig: configuration},
	}, nil
}

// requestIDs are a client's own, whatever they look like.
func requestIDs(s Settings) *requestidv3.UuidRequestIdConfig {
	c := &requestidv3.UuidRequestIdConfig{
		PackTraceReason: no(), // it would rewrite a digit of the client's id
	}
	if !s.Tracing.off() {
		// Envoy loses the first span of a request whose id is no UUID, if it may look
		// at the id to decide what is traced.
		c.UseRequestIdForTraceSampling = no()
	}
	return c
}

// identityHeaders are x-user-id, x-company-id and x-user-email in every
// spelling that some upstream folds into them: any one character or none where
// the hyphens are, and one more at the end. Underscores never get this far.
const identityHeaders = "x.?user.?id.?|x.?company.?id.?|x.?user.?email.?"

// earlyMutations run before routing, tracing and every filter, on all routes.
// The same removal on a route would run after authorisation and take the
// verified identity away with the forged one.
func earlyMutations() []*rulesv3.HeaderMutation {
	mutations := []*rulesv3.HeaderMutation{
		{Action: &rulesv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &rulesv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: matching(identityHeaders)}}},
		{Action: &rulesv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &rulesv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: startingWith("x-envoy-")}}},
	}
	for _, name := range routes.UntrustedHeaders() {
		mutations = append(mutations, &rulesv3.HeaderMutation{Action: &rulesv3.HeaderMutation_Remove{Remove: name}})
	}
	// The client's request id goes to logs and answers everywhere: bounded.
	return append(mutations, &rulesv3.HeaderMutation{Action: &rulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: "x-request-id", Value: "%REQ(X-REQUEST-ID):64%"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS,
	}}})
}
