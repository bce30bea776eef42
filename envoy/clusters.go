package envoy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atenex/gatehouse/envoy/routes"
)

// upstreamIdle is shorter than the keep-alive of the servers that we know to
// stand behind the gate (uvicorn: 5 s), so that it is we who close: a request
// sent into a connection that the other side is closing is a 502.
const upstreamIdle = 4 * time.Second

func clusters(t routes.Table, s Settings) ([]*clusterv3.Cluster, error) {
	authz, err := authzCluster(s)
	if err != nil {
		return nil, err
	}
	out := []*clusterv3.Cluster{authz}
	for _, name := range slices.Sorted(maps.Keys(t.Upstreams)) {
		if target, ok := s.upstreamURL(name, t.Upstreams[name]); ok {
			if !target.TLS && t.Upstreams[name].TLS != (routes.TLS{}) {
				return nil, fmt.Errorf("upstream %q: tls is for an https url", name)
			}
			out = append(out, upstreamCluster(name, t.Upstreams[name], target, s))
		}
	}
	return append(out, &clusterv3.Cluster{
		Name:                 routes.ReservedNowhere,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       span(time.Second),
		LoadAssignment:       &endpointv3.ClusterLoadAssignment{ClusterName: routes.ReservedNowhere},
	}), nil
}

// Our own services are replaced while requests go on, replica by replica. One
// that is about to stop says so to whoever asks for its health, and goes on
// serving for a while (the flag -drain): asked every second, and believed at
// once, it gets nothing new when it ends. A replica that has begun is known when
// its name has been looked up again and it has said that it is ready.
const (
	healthInterval = time.Second
	lookUpInterval = time.Second
	// loginHealth is answered on the port of the requests, by the process and not
	// by the service: whether the database works does not matter to it. No route
	// of the shipped tables leads there.
	loginHealth = "/readyz"
)

// authzCluster is every replica of authz. One that dies is out within a second
// and back within half a second of its return; with all of them out, Envoy says
// so at once instead of trying its luck.
func authzCluster(s Settings) (*clusterv3.Cluster, error) {
	address, err := parseAuthz(s.Authz)
	if err != nil {
		return nil, err
	}
	c := discovered(routes.ReservedAuthz, address, lookUpInterval)
	c.ConnectTimeout = span(time.Second)
	c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	c.IgnoreHealthOnHostRemoval = true
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: percent(0)}
	c.CircuitBreakers = retried(breakers(1024, 8192, 8192))
	c.HealthChecks = []*corev3.HealthCheck{watched(&corev3.HealthCheck{
		HealthChecker: &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{Authority: routes.ReservedAuthz}},
	})}
	c.TypedExtensionProtocolOptions = protocol(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
						MaxConcurrentStreams: u32(1000),
						// The headers of a check are few, and the way is short: to pack
						// them tighter costs more than it saves.
						EnableHuffmanEncoding: no(),
						// A peer that is gone without a word is found within 35 s.
						// authz's keepalive policy must allow a ping every 30 s.
						ConnectionKeepalive: &corev3.KeepaliveSettings{
							Interval: span(30 * time.Second), Timeout: span(5 * time.Second),
						},
					},
				},
			},
		},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: span(300 * time.Second)},
	})
	verifyAuthz(c, s)
	return c, nil
}

// loginReplicas makes a cluster of the login service notice replicas that come
// and go. With all of them out it tries them all the same: it is better to hear
// from the service why it cannot work, and one that is reached through something
// that does not pass the question on is no worse off than without it.
func loginReplicas(c *clusterv3.Cluster, target routes.URL) {
	c.IgnoreHealthOnHostRemoval = true
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: percent(1)}
	c.CircuitBreakers = retried(c.GetCircuitBreakers())
	c.HealthChecks = []*corev3.HealthCheck{watched(&corev3.HealthCheck{
		HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			Host: target.Authority,
			Path: target.BasePath + loginHealth,
		}},
	})}
}

// watched sets the clocks. What a replica says of itself counts at once; silence
// has to happen twice.
func watched(h *corev3.HealthCheck) *corev3.HealthCheck {
	h.Timeout = span(time.Second)
	h.Interval = span(healthInterval)
	h.NoTrafficInterval = span(healthInterval)
	h.UnhealthyInterval = span(healthInterval / 2)
	h.UnhealthyEdgeInterval = span(healthInterval / 2)
	h.UnhealthyThreshold = u32(2)
	h.HealthyThreshold = u32(1)
	return h
}

// retried lets as much be tried again as may be under way: when a replica is
// gone, everything that was on its way there is, at the same moment. Envoy's own
// figure is 3 at a time, and the rest would be refused.
func retried(b *clusterv3.CircuitBreakers) *clusterv3.CircuitBreakers {
	for _, t := range b.GetThresholds() {
		t.MaxRetries = t.GetMaxRequests()
	}
	return b
}

func upstreamCluster(name string, u routes.Upstream, target routes.URL, s Settings) *clusterv3.Cluster {
	refresh := time.Duration(0)
	if name == routes.UpstreamLogin {
		refresh = lookUpInterval
	}
	c := discovered(name, addressOf(target), refresh)
	c.ConnectTimeout = span(s.ConnectTimeout)
	if u.ConnectTimeout > 0 {
		c.ConnectTimeout = span(u.ConnectTimeout)
	}
	c.CircuitBreakers = bounds(name, u, s)
	if name == routes.UpstreamLogin {
		loginReplicas(c, target)
	}
	options := &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
				},
			},
		},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: span(upstreamIdle)},
	}
	if u.HTTP2 {
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
						InitialStreamWindowSize:     u32(bufferLimit),
						InitialConnectionWindowSize: u32(1 << 20),
					},
				},
			},
		}
	}
	if len(u.Headers.Forward) > 0 {
		options.HttpFilters = upstreamFilters(filter("gatehouse.forwarded-headers", &mutationv3.HeaderMutation{Mutations: onlyForwarded(u.Headers.Forward)}))
	}
	c.TypedExtensionProtocolOptions = protocol(options)
	if target.TLS {
		c.TransportSocket = &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.tls",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(verifiedTLS(target, u, s.CAFile))},
		}
	}
	return c
}

// bounds of what is open to an upstream.
func bounds(name string, u routes.Upstream, s Settings) *clusterv3.CircuitBreakers {
	n := s.MaxConnections
	if name == routes.UpstreamLogin {
		// Our own service, with limits of its own: a small figure for the
		// services behind the gate must not lock people out.
		n = 1024
	}
	if u.Connections.Max > 0 {
		n = u.Connections.Max
	}
	waiting := n
	if u.Connections.Waiting > 0 {
		waiting = u.Connections.Waiting
	}
	switch {
	case name == routes.UpstreamLogin:
		return breakers(n, waiting, n)
	case u.HTTP2:
		// One connection carries many requests, which are what a service has to
		// bear.
		return breakers(n, waiting, n)
	}
	// As many may wait for a connection as may have one. With one request to a
	// connection, a bound on requests would only be a second figure.
	return breakers(n, waiting, 1<<20)
}

// discovered is a cluster whose members are the addresses of one name, looked
// up again and again (refresh 0: every 5 s); or a socket in the file system.
func discovered(name string, address *corev3.Address, refresh time.Duration) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                          name,
		PerConnectionBufferLimitBytes: u32(bufferLimit),
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{
				LbEndpoints: []*endpointv3.LbEndpoint{{
					HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
				}},
			}},
		},
	}
	if address.GetPipe() == nil {
		dns := &dnsv3.DnsCluster{
			// An IPv6 address that a container cannot reach would be every second try.
			DnsLookupFamily: commondnsv3.DnsLookupFamily_V4_PREFERRED,
			DnsFailureRefreshRate: &dnsv3.DnsCluster_RefreshRate{
				BaseInterval: span(500 * time.Millisecond), MaxInterval: span(5 * time.Second),
			},
		}
		if refresh > 0 {
			dns.DnsRefreshRate = span(refresh)
		}
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.cluster.dns", TypedConfig: pack(dns),
		}}
	}
	return c
}

func breakers(connections, pending, requests uint32) *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		Priority:           corev3.RoutingPriority_DEFAULT,
		MaxConnections:     u32(connections),
		MaxPendingRequests: u32(pending),
		MaxRequests:        u32(requests),
		TrackRemaining:     true,
	}}}
}

func protocol(o *httpv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(o)}
}

// verifiedTLS checks the upstream's certificate against the CA bundle and its
// names against the host of the URL. An unverified https is a plain http that
// looks safe.
func verifiedTLS(target routes.URL, u routes.Upstream, caFile string) *tlsv3.UpstreamTlsContext {
	if u.TLS.CA != "" {
		caFile = u.TLS.CA
	}
	if u.TLS.ServerName != "" {
		target.Host = u.TLS.ServerName
	}
	check := &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: caFile}},
	}
	san := &tlsv3.SubjectAltNameMatcher{
		SanType: tlsv3.SubjectAltNameMatcher_DNS,
		Matcher: exactly(target.Host),
	}
	c := &tlsv3.UpstreamTlsContext{Sni: target.Host}
	if target.IsIP() {
		san.SanType = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		c.Sni = "" // RFC 6066 section 3: names only
	}
	check.MatchTypedSubjectAltNames = []*tlsv3.SubjectAltNameMatcher{san}
	speaks := "http/1.1"
	if u.HTTP2 {
		speaks = "h2"
	}
	c.CommonTlsContext = &tlsv3.CommonTlsContext{
		AlpnProtocols:         []string{speaks},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: check},
	}
	return c
}
