package envoy

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atenex/gatehouse/envoy/routes"
)

// routeConfiguration turns the table into Envoy's routes. Envoy takes the first
// route that matches, so the order here is the law: what is no request, foreign
// preflights, then every path from the most to the least specific with its 405, then the 404.
func routeConfiguration(t routes.Table, s Settings) (*routev3.RouteConfiguration, error) {
	cors, err := corsPolicy(t, s)
	if err != nil {
		return nil, err
	}
	rendered := []*routev3.Route{
		// To Envoy two Host lines are one with a comma in it, which no name of a host
		// has. RFC 9112 section 3.2 demands the refusal: whoever stands before Envoy may
		// have gone by the first, and upstreams would read both as X-Forwarded-Host.
		fixed(routes.AnswerTwoHosts, &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
			Headers: []*routev3.HeaderMatcher{header(":authority", &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Contains{Contains: ","},
			})},
		}, routes.Answer{Status: 400, Detail: "Bad Request"}),
		foreignPreflight(),
		// CONNECT has no path and would meet no route at all. It is refused as an
		// upgrade before this answer is made; localReplies turns that into the same.
		fixed(routes.AnswerConnect, &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}},
		}, routes.Answer{Status: 404, Detail: "Not Found"}),
		// Envoy before 1.38.4 leaves "/..;/" alone, and servlet engines behind it
		// climb there. What is left of a dot segment is no path.
		fixed(routes.AnswerDotSegment, &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: regex(`.*/[.][.]?(;|%3[bB]).*`)},
		}, routes.Answer{Status: 400, Detail: "Bad Request"}),
	}
	for _, family := range families(t.Routes) {
		more, err := family.render(t, s)
		if err != nil {
			return nil, err
		}
		rendered = append(rendered, more...)
	}
	rendered = append(rendered, fixed(routes.AnswerNotFound, &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
	}, routes.Answer{Status: 404, Detail: "Not Found"}))

	return &routev3.RouteConfiguration{
		Name: "edge",
		RequestHeadersToAdd: []*corev3.HeaderValueOption{
			setHeader("x-forwarded-host", "%REQ(:AUTHORITY)%"),
			{
				Header:       &corev3.HeaderValue{Key: "x-forwarded-for", Value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
				AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
			},
		},
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    "gate",
			Domains: []string{"*"},
			Routes:  rendered,
			TypedPerFilterConfig: map[string]*anypb.Any{
				filterCORS: cors,
				// What a route does not say is strict.
				filterAuthz: pack(checked(map[string]string{"auth_mode": routes.Strict.String()})),
			},
		}},
	}, nil
}

// family is the routes of one match, which share a 405.
type family struct {
	match  routes.Match
	routes []routes.Route
}

func families(all []routes.Route) []family {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b routes.Route) int { return routes.Compare(a.Match, b.Match) })
	var out []family
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].match == r.Match {
			out[n-1].routes = append(out[n-1].routes, r)
			continue
		}
		out = append(out, family{match: r.Match, routes: []routes.Route{r}})
	}
	return out
}

func (f family) render(t routes.Table, s Settings) ([]*routev3.Route, error) {
	var out []*routev3.Route
	var allowed []string
	for _, r := range f.routes {
		if r.Answer != nil {
			return []*routev3.Route{fixed(r.Name, matchOf(f.match), *r.Answer)}, nil
		}
		allowed = append(allowed, r.Methods...)
		rendered, err := forwarding(t, s, r)
		if err != nil {
			return nil, err
		}
		out = append(out, rendered...)
	}
	order := routes.Methods()
	slices.SortFunc(allowed, func(a, b string) int {
		return slices.Index(order, a) - slices.Index(order, b)
	})
	refusal := fixed(f.routes[0].Name+"-other-methods", matchOf(f.match), routes.Answer{Status: 405, Detail: "Method Not Allowed"})
	refusal.ResponseHeadersToAdd = []*corev3.HeaderValueOption{setHeader("allow", strings.Join(allowed, ", "))}
	return append(out, refusal), nil
}

// forwarding renders a route of the table that leads to an upstream.
func forwarding(t routes.Table, s Settings, r routes.Route) ([]*routev3.Route, error) {
	upstream := t.Upstreams[r.Upstream]
	target, ok := s.upstreamURL(r.Upstream, upstream)
	match := func() *routev3.RouteMatch {
		m := matchOf(r.Match)
		m.Headers = []*routev3.HeaderMatcher{header(":method", oneOf(r.Methods))}
		return m
	}
	if !ok {
		if upstream.Unset == nil {
			return nil, fmt.Errorf("route %q: no URL is set for %s", r.Name, r.Upstream)
		}
		return []*routev3.Route{fixed(r.Name, match(), *upstream.Unset)}, nil
	}

	build := func(name string, m *routev3.RouteMatch) (*routev3.Route, *routev3.RouteAction) {
		action := &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: r.Upstream},
			// The client's own Host travels as X-Forwarded-Host.
			HostRewriteSpecifier: &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: target.Authority},
			Timeout:              span(0),
		}
		if s.StreamMax > 0 && r.Mode != routes.None {
			// Beside the bound that authz sends, which knows the token too.
			action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: span(s.StreamMax)}
		}
		if target.BasePath != "" {
			action.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
				Pattern:      regex("^/"),
				Substitution: strings.ReplaceAll(target.BasePath, `\`, `\\`) + "/",
			}
		}
		route := &routev3.Route{
			Name:                 name,
			Match:                m,
			Action:               &routev3.Route_Route{Route: action},
			TypedPerFilterConfig: guard(t, r, s),
		}
		if !upstream.Authorization && !s.ForwardAuthorization {
			// In the router, after authz has read it.
			route.RequestHeadersToRemove = []string{"authorization"}
		}
		if !upstream.HTTP2 {
			// What Envoy leaves of it, "trailers", it would not keep: trailers end here.
			// gRPC does not work without it.
			route.RequestHeadersToRemove = append(route.RequestHeadersToRemove, "te")
		}
		route.RequestHeadersToRemove = append(route.RequestHeadersToRemove, upstream.Headers.Drop...)
		for _, name := range r.Headers.Drop {
			if !slices.Contains(upstream.Headers.Drop, name) {
				route.RequestHeadersToRemove = append(route.RequestHeadersToRemove, name)
			}
		}
		return route, action
	}

	eff := timeoutsOf(t, r, s)
	exchange := func(m *routev3.RouteMatch) *routev3.Route {
		route, action := build(r.Name, m)
		if eff.Total > 0 {
			action.Timeout = span(eff.Total)
			// Total counts from the end of the request; a client that never ends
			// it must not hold the exchange for longer than the stream may idle.
			action.IdleTimeout = span(eff.Total + eff.Total/3)
		}
		action.RetryPolicy = retries(r.Upstream, upstream, eff)
		return route
	}
	exchanges := bounded(r, match, exchange)
	if !r.WebSocket {
		return exchanges, nil
	}

	// Upgrades have a route of their own, so that GET alone is offered one
	// (RFC 6455 section 4.1) and so that no clock but the stream's runs on a
	// WebSocket, which may be silent for longer than an answer may be late.
	// Envoy has taken the Upgrade header off everything that is not an upgrade
	// by the time it looks for a route.
	m := matchOf(r.Match)
	m.Headers = []*routev3.HeaderMatcher{
		header(":method", exactly("GET")),
		header("upgrade", &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "websocket"}, IgnoreCase: true,
		}),
	}
	socket, action := build(r.Name+"-websocket", m)
	action.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{UpgradeType: "websocket", Enabled: yes()}}
	return append([]*routev3.Route{socket}, exchanges...), nil
}

// retryUnread are the failures that leave a request unread.
const retryUnread = "connect-failure,refused-stream,reset-before-request"

// retries says what is tried again: requests of methods that may be, and only
// where no byte of them has reached the service, so that nothing is done twice.
func retries(name string, u routes.Upstream, eff routes.Timeouts) *routev3.RetryPolicy {
	if name == routes.UpstreamLogin {
		return loginRetries()
	}
	if u.Retries == 0 && eff.Idle == 0 {
		return nil
	}
	// Without retry_on nothing is retried and nothing buffered for it; the policy
	// is also where Envoy keeps the time-out that counts bytes.
	policy := &routev3.RetryPolicy{}
	if eff.Idle > 0 {
		policy.PerTryIdleTimeout = span(eff.Idle)
	}
	if u.Retries > 0 {
		policy.RetryOn = retryUnread
		policy.NumRetries = u32(u.Retries)
		policy.RetriableRequestHeaders = []*routev3.HeaderMatcher{
			header(":method", oneOf([]string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})),
		}
	}
	return policy
}

// loginRetries brings a request to another replica of the login service when the
// one that it was meant for is gone: all methods, because only what no replica
// has read is sent again. (The route's time is that of all tries together.)
func loginRetries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:    retryUnread,
		NumRetries: u32(2),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
		}},
		HostSelectionRetryMaxAttempts: 5,
	}
}

// leastHeld is the least that the buffer is allowed to hold. What has come in
// while authz was asked may be as much as bufferLimit and a read; with a smaller
// allowance Envoy finds itself above the mark already, reads no more, and never
// answers.
const leastHeld = 4 * bufferLimit

// bounded renders a route with its limit on bodies. Envoy can only count a body
// that it holds, so one whose length is announced is judged by its header and
// streams, and only one of unknown length is held, up to the limit. The buffer
// does not look at the last piece of a body; it writes down the length, though,
// which is judged once more behind it.
func bounded(r routes.Route, match func() *routev3.RouteMatch, exchange func(*routev3.RouteMatch) *routev3.Route) []*routev3.Route {
	if r.MaxBody == 0 {
		return []*routev3.Route{exchange(match())}
	}
	const length = "content-length"
	tooLarge := routes.Answer{Status: 413, Detail: detailTooLarge}
	over := &routev3.HeaderMatcher{
		Name: length,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_RangeMatch{RangeMatch: &typev3.Int64Range{
			Start: int64(r.MaxBody) + 1, End: math.MaxInt64,
		}},
	}
	large, announced := match(), match()
	large.Headers = append(large.Headers, over)
	announced.Headers = append(announced.Headers, &routev3.HeaderMatcher{
		Name: length, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
	})
	held := exchange(match())
	held.Metadata = answerOf(tooLarge)
	held.TypedPerFilterConfig[filterBuffer] = pack(&bufferv3.BufferPerRoute{Override: &bufferv3.BufferPerRoute_Buffer{
		Buffer: &bufferv3.Buffer{MaxRequestBytes: u32(max(r.MaxBody, leastHeld))},
	}})
	refusal := abort(tooLarge)
	refusal.Headers = []*routev3.HeaderMatcher{over}
	held.TypedPerFilterConfig[filterBodyLimit] = pack(refusal)
	return []*routev3.Route{
		fixed(r.Name+"-too-large", large, tooLarge),
		exchange(announced),
		held,
	}
}

// foreignPreflight catches what the CORS filter leaves: the preflights of
// origins that are not allowed. They are answered here, without a word about
// methods, headers or origins, rather than sent on to be judged as requests.
func foreignPreflight() *routev3.Route {
	present := func(name string) *routev3.HeaderMatcher {
		return &routev3.HeaderMatcher{
			Name:                 name,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		}
	}
	return fixed(routes.AnswerPreflight, &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
		Headers: []*routev3.HeaderMatcher{
			header(":method", exactly("OPTIONS")),
			present("origin"),
			present("access-control-request-method"),
		},
	}, routes.Answer{Status: 403, Detail: "Origin is not allowed."})
}

// fixed is an answer of Envoy itself. It is made by the fault filter, because
// the CORS filter passes over direct responses. Should that filter ever be gone,
// authorisation is still on and the cluster behind has no members.
func fixed(name string, match *routev3.RouteMatch, a routes.Answer) *routev3.Route {
	return &routev3.Route{
		Name:  name,
		Match: match,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: routes.ReservedNowhere},
		}},
		TypedPerFilterConfig: map[string]*anypb.Any{filterFault: pack(abort(a))},
		Metadata:             answerOf(a),
	}
}

// answerOf is the words of an answer, which localReplies looks up; the fault
// filter has some of its own before Envoy 1.40.
func answerOf(a routes.Answer) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		answerNamespace: {Fields: map[string]*structpb.Value{answerBody: structpb.NewStringValue(detailBody(a.Detail))}},
	}}
}

// matchOf is the path part of a route match.
func matchOf(m routes.Match) *routev3.RouteMatch {
	switch {
	case m.Path != "":
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: m.Path}}
	case m.Template != "":
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: regex(m.Regexp())}}
	default:
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Prefix}}
	}
}

func header(name string, value *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: value},
	}
}

func oneOf(words []string) *matcherv3.StringMatcher {
	if len(words) == 1 {
		return exactly(words[0])
	}
	return matching(strings.Join(words, "|"))
}

// timeoutsOf a route: its own, else its upstream's, else the settings'.
func timeoutsOf(t routes.Table, r routes.Route, s Settings) routes.Timeouts {
	up := t.Upstreams[r.Upstream].Timeouts
	eff := routes.Timeouts{Idle: r.Timeouts.Idle, Total: r.Timeouts.Total}
	if eff.Total == 0 {
		eff.Total = up.Total
	}
	if eff.Idle == 0 {
		eff.Idle = up.Idle
	}
	if eff.Idle == 0 && eff.Total == 0 {
		eff.Idle = s.UpstreamTimeout
	}
	return eff
}
