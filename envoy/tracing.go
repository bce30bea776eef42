package envoy

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	samplersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	tagv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// Tracing has Envoy send spans to an OpenTelemetry collector; the zero value: it
// does not.
//
// Envoy stands at the edge, and a stranger's traceparent is a stranger's: believed,
// it would let anybody have all of their requests traced, or none, or put them into
// somebody else's trace. So it is removed, every trace begins here, and upstreams
// get Envoy's own. Without tracing it passes, as any other header does.
type Tracing struct {
	// Endpoint is the collector's URL: http or https, with a port; the path
	// counts over HTTP alone. Empty: nothing is traced.
	Endpoint string
	GRPC     bool // else HTTP
	// Service and Attributes describe Envoy to the collector. None is a secret.
	Service    string
	Attributes map[string]string
	// Ratio is the share of the traces that begin here that is kept, 0 to 1.
	Ratio float64
	// TrustClients takes over the trace of a client's traceparent, and with
	// FollowParent also what it says of whether that is kept. It is for a gate
	// behind another one.
	TrustClients, FollowParent bool
	// Timeout bounds one export; zero: 10 s.
	Timeout time.Duration
	// CAFile, CertFile and KeyFile are PEM files on Envoy's machine, for https;
	// empty: Settings.CAFile, and no certificate of the client's.
	CAFile, CertFile, KeyFile string
}

const clusterTraces = "opentelemetry"

func (t Tracing) off() bool { return t.Endpoint == "" }

// collector is where spans go.
type collector struct {
	host      string
	port      uint32
	tls       bool
	authority string
	path      string
}

func (t Tracing) collector() (collector, error) {
	u, err := url.Parse(t.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
		return collector{}, errors.New("want http://host:port or https://host:port")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return collector{}, errors.New("the port is missing or none")
	}
	return collector{host: u.Hostname(), port: uint32(port), tls: u.Scheme == "https", authority: u.Host, path: u.Path}, nil
}

func (t Tracing) validate() error {
	if t.off() {
		return nil
	}
	if _, err := t.collector(); err != nil {
		return err
	}
	if !(t.Ratio >= 0 && t.Ratio <= 1) {
		return fmt.Errorf("a ratio of %v: want 0 to 1", t.Ratio)
	}
	for key, value := range t.Attributes {
		if strings.ToValidUTF8(key, "") != key || strings.ToValidUTF8(value, "") != value {
			return errors.New("an attribute is no valid UTF-8")
		}
	}
	return nil
}

// tracing is nil where nothing is traced.
func tracing(s Settings) (*managerv3.HttpConnectionManager_Tracing, error) {
	t := s.Tracing
	if t.off() {
		return nil, nil
	}
	at, err := t.collector()
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	config := &tracev3.OpenTelemetryConfig{
		ServiceName: t.Service,
		Sampler:     t.sampler(),
		// As many as the SDK of our own services keeps while the collector is away.
		MaxCacheSize: u32(2048),
	}
	if len(t.Attributes) > 0 {
		config.ResourceDetectors = []*corev3.TypedExtensionConfig{
			extension("envoy.tracers.opentelemetry.resource_detectors.static_config", &resourcev3.StaticConfigResourceDetectorConfig{Attributes: t.Attributes}),
		}
	}
	timeout := t.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	if t.GRPC {
		config.GrpcService = &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: clusterTraces, Authority: at.authority}},
			Timeout:         span(timeout),
		}
	} else {
		config.HttpService = &corev3.HttpService{HttpUri: &corev3.HttpUri{
			Uri:              t.Endpoint,
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: clusterTraces},
			Timeout:          span(timeout),
		}}
	}
	return &managerv3.HttpConnectionManager_Tracing{
		Provider: &tracev3.Tracing_Http{
			Name:       "envoy.tracers.opentelemetry",
			ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: pack(config)},
		},
		// The sampler decides alone; x-client-trace-id is not asked.
		ClientSampling: percent(0),
		// A gate is a hop of its own: upstreams are children of the span that
		// Envoy makes for them.
		SpawnUpstreamSpan: yes(),
		Operation:         "%REQ(:METHOD)% %ROUTE_NAME%",
		UpstreamOperation: "upstream %UPSTREAM_CLUSTER%",
		// The tag http.url has the query, where tokens live; without a length it has
		// neither. The path, without the query, is a tag of its own.
		MaxPathTagLength: u32(0),
		CustomTags: []*tagv3.CustomTag{
			tag("url.path", "%PATH(NQ:PATH):256%"),
			tag("http.route", "%ROUTE_NAME%"),
			tag("gatehouse.decision", "%DYNAMIC_METADATA("+metadataNamespace+":outcome)%"),
			tag("gatehouse.reason", "%DYNAMIC_METADATA("+metadataNamespace+":reason)%"),
		},
	}, nil
}

func tag(name, format string) *tagv3.CustomTag {
	return &tagv3.CustomTag{Tag: name, Type: &tagv3.CustomTag_Value{Value: format}}
}

// sampler counts in millionths, which is as fine as Envoy can. A share that is
// less than one of them is one: who asks for few traces does not ask for none.
func (t Tracing) sampler() *corev3.TypedExtensionConfig {
	root := extension("envoy.tracers.opentelemetry.samplers.always_on", &samplersv3.AlwaysOnSamplerConfig{})
	if t.Ratio < 1 {
		share := uint32(math.Round(t.Ratio * 1e6))
		if t.Ratio > 0 {
			share = max(share, 1)
		}
		root = extension("envoy.tracers.opentelemetry.samplers.trace_id_ratio_based", &samplersv3.TraceIdRatioBasedSamplerConfig{
			SamplingPercentage: &typev3.FractionalPercent{Numerator: share, Denominator: typev3.FractionalPercent_MILLION},
		})
	}
	if !t.TrustClients || !t.FollowParent {
		return root
	}
	return extension("envoy.tracers.opentelemetry.samplers.parent_based", &samplersv3.ParentBasedSamplerConfig{WrappedSampler: root})
}

// strangersTraces are removed before anything else looks at a request.
func strangersTraces(s Settings) []*rulesv3.HeaderMutation {
	if s.Tracing.off() || s.Tracing.TrustClients {
		return nil
	}
	var out []*rulesv3.HeaderMutation
	for _, name := range []string{"traceparent", "tracestate", "x-client-trace-id"} {
		out = append(out, &rulesv3.HeaderMutation{Action: &rulesv3.HeaderMutation_Remove{Remove: name}})
	}
	return out
}

// tracesCluster is the collector; nil: there is none. Its failures cost spans.
func tracesCluster(s Settings) (*clusterv3.Cluster, error) {
	t := s.Tracing
	if t.off() {
		return nil, nil
	}
	at, err := t.collector()
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	c := discovered(clusterTraces, tcpAddress(at.host, at.port), 0)
	c.ConnectTimeout = span(time.Second)
	c.CircuitBreakers = breakers(16, 64, 64)
	speaks := "http/1.1"
	options := &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
		},
	}}
	if t.GRPC {
		speaks = "h2"
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
			},
		}
	}
	c.TypedExtensionProtocolOptions = protocol(options)
	if at.tls {
		c.TransportSocket = t.tls(at, speaks, s.CAFile)
	}
	return c, nil
}

func (t Tracing) tls(at collector, speaks, caFile string) *corev3.TransportSocket {
	if t.CAFile != "" {
		caFile = t.CAFile
	}
	file := func(name string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
	}
	san := &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exactly(at.host)}
	context := &tlsv3.UpstreamTlsContext{Sni: at.host}
	if _, err := netip.ParseAddr(at.host); err == nil {
		san.SanType = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		context.Sni = "" // RFC 6066 section 3: names only
	}
	context.CommonTlsContext = &tlsv3.CommonTlsContext{
		AlpnProtocols: []string{speaks},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: file(caFile), MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{san},
		}},
	}
	if t.CertFile != "" {
		context.CommonTlsContext.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: file(t.CertFile), PrivateKey: file(t.KeyFile)}}
	}
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(context)},
	}
}
