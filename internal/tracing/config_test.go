package tracing_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/tracing"
)

// said is what is compared of a Config.
type said struct {
	On       bool
	Endpoint string
	GRPC     bool
	Sampler  tracing.Sampler
	Service  string
	Alone    bool
}

func TestReadTakesTheStandardVariables(t *testing.T) {
	t.Parallel()
	whole := tracing.Sampler{Ratio: 1, Parent: true}
	cases := []struct {
		name    string
		environ []string
		want    said
	}{
		{"nothing is traced without an endpoint", []string{"OTEL_SERVICE_NAME=x"}, said{}},
		{"nor with an empty one", []string{"OTEL_EXPORTER_OTLP_ENDPOINT="}, said{}},
		{"nor where the SDK is disabled, whatever else is wrong", []string{"OTEL_SDK_DISABLED=TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT=::"}, said{}},
		{"nor where no traces are exported", []string{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, said{}},
		{"the endpoint of all signals is a base", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/in"}, said{On: true, Endpoint: "http://c:4318/in/v1/traces", Sampler: whole, Service: "gate"}},
		{"that of traces is taken as it is", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://c/x"}, said{On: true, Endpoint: "https://c:443/x", Sampler: whole, Service: "gate"}},
		{"the exporter alone means the standard endpoint", []string{"OTEL_TRACES_EXPORTER=otlp"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: whole, Service: "gate"}},
		{"which is another one for grpc", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, said{On: true, GRPC: true, Endpoint: "http://localhost:4317", Sampler: whole, Service: "gate"}},
		{"the protocol of traces counts more", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: whole, Service: "gate"}},
		{"every trace", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=always_on"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: tracing.Sampler{Ratio: 1}, Service: "gate"}},
		{"a share of them", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.25"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: tracing.Sampler{Ratio: .25, Parent: true}, Service: "gate"}},
		{"only those of others", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=parentbased_always_off"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: tracing.Sampler{Parent: true}, Service: "gate"}},
		{"the service's name counts more than the attribute", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_RESOURCE_ATTRIBUTES=service.name=a,deployment.environment=p%20q", "OTEL_SERVICE_NAME=b"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: whole, Service: "b"}},
		{"which counts more than ours", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_RESOURCE_ATTRIBUTES=service.name=a"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: whole, Service: "a"}},
		{"what others say of a trace is left alone", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_PROPAGATORS=none"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: whole, Service: "gate", Alone: true}},
		{"baggage changes nothing", []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_PROPAGATORS=baggage, tracecontext"}, said{On: true, Endpoint: "http://localhost:4318/v1/traces", Sampler: whole, Service: "gate"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := tracing.Read(c.environ, "gate")
			if err != nil {
				t.Fatal(err)
			}
			is := said{On: got.On, GRPC: got.GRPC, Sampler: got.Sampler, Service: got.Service, Alone: got.Alone}
			if got.Endpoint != nil {
				is.Endpoint = got.Endpoint.String()
			}
			if diff := cmp.Diff(c.want, is); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReadRefusesWhatIsMalformedOrNotBuilt(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"
	cases := []struct {
		name    string
		environ []string
		want    []string // the variables, each in a line of its own
	}{
		{"an endpoint without a scheme", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317"}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}},
		{"one that is no URL", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://hidden-word:x@c:y"}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}},
		{"one with a password", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://u:hidden-word@c"}, []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}},
		{"one with a key in its query", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c/?key=hidden-word"}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}},
		{"a port that is none", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:99999"}, []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}},
		{"another exporter", []string{"OTEL_TRACES_EXPORTER=zipkin"}, []string{"OTEL_TRACES_EXPORTER"}},
		{"neither true nor false", []string{"OTEL_SDK_DISABLED=yes"}, []string{"OTEL_SDK_DISABLED"}},
		{"protobuf in JSON", []string{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}, []string{"OTEL_EXPORTER_OTLP_PROTOCOL"}},
		{"a sampler that asks somebody", []string{endpoint, "OTEL_TRACES_SAMPLER=jaeger_remote"}, []string{"OTEL_TRACES_SAMPLER"}},
		{"half of a sampler", []string{endpoint, "OTEL_TRACES_SAMPLER=parentbased_"}, []string{"OTEL_TRACES_SAMPLER"}},
		{"more than everything", []string{endpoint, "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=1.5"}, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		{"no number at all", []string{endpoint, "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=NaN"}, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		{"propagation that is not W3C's", []string{endpoint, "OTEL_PROPAGATORS=b3"}, []string{"OTEL_PROPAGATORS"}},
		{"none beside one", []string{endpoint, "OTEL_PROPAGATORS=none,tracecontext"}, []string{"OTEL_PROPAGATORS"}},
		{"an attribute without a value", []string{endpoint, "OTEL_RESOURCE_ATTRIBUTES=a=1,b"}, []string{"OTEL_RESOURCE_ATTRIBUTES"}},
		{"headers without a value", []string{endpoint, "OTEL_EXPORTER_OTLP_HEADERS=hidden-word"}, []string{"OTEL_EXPORTER_OTLP_HEADERS"}},
		{"a time with a unit", []string{endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT=10s"}, []string{"OTEL_EXPORTER_OTLP_TIMEOUT"}},
		{"a queue of no size", []string{endpoint, "OTEL_BSP_MAX_QUEUE_SIZE=many"}, []string{"OTEL_BSP_MAX_QUEUE_SIZE"}},
		{"a way to compress", []string{endpoint, "OTEL_EXPORTER_OTLP_COMPRESSION=zstd"}, []string{"OTEL_EXPORTER_OTLP_COMPRESSION"}},
		{"a certificate that is nowhere", []string{endpoint, "OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere/ca.pem"}, []string{"OTEL_EXPORTER_OTLP_CERTIFICATE"}},
		{"half of a client certificate", []string{endpoint, "OTEL_EXPORTER_OTLP_CLIENT_KEY=/nowhere/key.pem"}, []string{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"}},
		{"all of it at once", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=c", "OTEL_EXPORTER_OTLP_PROTOCOL=x", "OTEL_TRACES_SAMPLER=y"}, []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_ENDPOINT"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := tracing.Read(c.environ, "gate")
			if err == nil || got.On {
				t.Fatalf("taken: %+v", got)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("%d lines, want %d:\n%v", len(lines), len(c.want), err)
			}
			for i, name := range c.want {
				if !strings.HasPrefix(lines[i], name+": ") {
					t.Errorf("line %q does not begin with %s", lines[i], name)
				}
			}
			if strings.Contains(err.Error(), "hidden-word") {
				t.Errorf("the error repeats a secret: %v", err)
			}
		})
	}
}

func TestReadWarnsOfWhatItPassesOver(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"
	cases := []struct {
		name    string
		environ []string
		want    string
	}{
		{"other ways to propagate beside ours", []string{endpoint, "OTEL_PROPAGATORS=tracecontext,b3"}, "b3 is not built"},
		{"a sampler without an endpoint", []string{"OTEL_TRACES_SAMPLER=always_on"}, "nothing is traced"},
		{"a path with grpc", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317/v1/traces", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "path"},
		{"the port of grpc over http", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, warnings, err := tracing.Read(c.environ, "gate")
			if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], c.want) {
				t.Errorf("got %q, %v; want one with %q", warnings, err, c.want)
			}
		})
	}
}
