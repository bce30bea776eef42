package envoy_test

import (
	"strings"
	"testing"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

// traced is the rendering with a collector.
func traced(t *testing.T, tracing envoy.Tracing) string {
	t.Helper()
	s := envoy.DefaultSettings()
	s.Tracing = tracing
	table, err := routes.Load("prefix")
	if err != nil {
		t.Fatal(err)
	}
	b, err := envoy.Bootstrap(table, s)
	if err != nil {
		t.Fatal(err)
	}
	text, err := envoy.YAML(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTracingIsRenderedAsAsked(t *testing.T) {
	t.Parallel()
	const stripped = "remove: traceparent"
	cases := []struct {
		name    string
		tracing envoy.Tracing
		want    []string
		wantNot []string
	}{
		{
			"nothing without a collector", envoy.Tracing{Ratio: 1, Service: "x"},
			nil, []string{"opentelemetry", stripped, "use_request_id_for_trace_sampling"},
		},
		{
			"over gRPC", envoy.Tracing{Endpoint: "http://collector:4317", GRPC: true, Service: "gate", Ratio: 1},
			[]string{"cluster_name: opentelemetry", "authority: collector:4317", "service_name: gate", "samplers.always_on", "http2_protocol_options: {}", stripped},
			[]string{"http_service"},
		},
		{
			"over HTTP, with the path", envoy.Tracing{Endpoint: "http://collector:4318/v1/traces", Ratio: 1},
			[]string{"uri: http://collector:4318/v1/traces", "cluster: opentelemetry"}, []string{"samplers.parent_based"},
		},
		{
			"a share of the traces", envoy.Tracing{Endpoint: "http://c:1", Ratio: .25},
			[]string{"samplers.trace_id_ratio_based", "numerator: 250000", "denominator: MILLION"}, nil,
		},
		{
			"a share too small for Envoy is the smallest", envoy.Tracing{Endpoint: "http://c:1", Ratio: 1e-9},
			[]string{"numerator: 1\n"}, nil,
		},
		{
			"none of them", envoy.Tracing{Endpoint: "http://c:1"},
			[]string{"samplers.trace_id_ratio_based"}, []string{"samplers.always_on"},
		},
		{
			"a client decides nothing though our services follow their parents", envoy.Tracing{Endpoint: "http://c:1", Ratio: .5, FollowParent: true},
			[]string{stripped, "remove: tracestate"}, []string{"samplers.parent_based"},
		},
		{
			"but where clients are trusted", envoy.Tracing{Endpoint: "http://c:1", Ratio: .5, FollowParent: true, TrustClients: true},
			[]string{"samplers.parent_based", "wrapped_sampler"}, []string{stripped},
		},
		{
			"what is known of the place", envoy.Tracing{Endpoint: "http://c:1", Ratio: 1, Attributes: map[string]string{"deployment.environment.name": "test"}},
			[]string{"resource_detectors.static_config", "deployment.environment.name: test"}, nil,
		},
		{
			"over TLS, with the name checked", envoy.Tracing{Endpoint: "https://collector:4318/v1/traces", Ratio: 1, CAFile: "/pki/ca.pem", CertFile: "/pki/c.pem", KeyFile: "/pki/k.pem"},
			[]string{"sni: collector", "exact: collector", "filename: /pki/ca.pem", "filename: /pki/c.pem", "filename: /pki/k.pem"}, nil,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := traced(t, c.tracing)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("the rendering lacks %q", want)
				}
			}
			for _, not := range c.wantNot {
				if strings.Contains(got, not) {
					t.Errorf("the rendering has %q", not)
				}
			}
		})
	}
}

func TestACollectorThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	for _, tracing := range []envoy.Tracing{
		{Endpoint: "collector:4317"}, {Endpoint: "http://collector"}, {Endpoint: "ftp://c:1"}, {Endpoint: "http://u:p@c:1"},
		{Endpoint: "http://c:1", Ratio: 2}, {Endpoint: "http://c:1", Attributes: map[string]string{"a": "\xff"}},
	} {
		s := envoy.DefaultSettings()
		s.Tracing = tracing
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), "tracing: ") {
			t.Errorf("%+v: %v", tracing, err)
		}
	}
}

// TestEnvoyTakesTheTracing has the real Envoy check every kind of it.
func TestEnvoyTakesTheTracing(t *testing.T) {
	t.Parallel()
	err := envoy.Validate(t.Context(), binary(t), []byte(traced(t, envoy.Tracing{
		Endpoint: "http://127.0.0.1:4318/v1/traces", Ratio: .1, FollowParent: true, TrustClients: true,
		Service: "gate", Attributes: map[string]string{"a": "b"},
	})))
	if err != nil {
		t.Error(err)
	}
}
