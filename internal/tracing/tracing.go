// Package tracing sends spans to an OpenTelemetry collector, where the standard
// OTEL_ variables name one; where they do not, it starts nothing and costs nothing.
//
// It must never know what is traced, and no token, email, header or SQL reaches it:
// whoever makes a span names it from a closed set.
//
// The variables are read here, from the environment that the process was given, and
// judged in full; the SDK would pass over what it cannot read. What remains to the
// SDK (headers, certificates, compression, the sizes of queues) it takes from the
// environment of the operating system, which in a process of ours is the same one.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// scope names who made the spans.
const scope = "github.com/atenex/gatehouse"

// Options are what a Tracing is made of, beside what the variables say.
type Options struct {
	Config Config
	// Version of the program, for the resource.
	Version string
	// Metrics has the figures of the export, also while nothing is traced.
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// Tracing is the tracing of one process.
type Tracing struct {
	config   Config
	resource *resource.Resource
	provider *sdk.TracerProvider // nil until Start, and while nothing is traced
	tracer   trace.Tracer
	exports  *exports
}

// New makes a Tracing that is off until Start.
func New(o Options) (*Tracing, error) {
	t := &Tracing{config: o.Config, exports: newExports(o.Logger)}
	if err := o.Metrics.Register(t.exports.spans); err != nil {
		return nil, fmt.Errorf("registering the metrics of tracing: %w", err)
	}
	if !o.Config.On {
		return t, nil
	}
	attributes := []attribute.KeyValue{
		attribute.String("service.version", o.Version),
		attribute.String("service.instance.id", instance()),
	}
	for key, value := range o.Config.Attributes {
		attributes = append(attributes, attribute.String(key, value)) // the last one counts
	}
	attributes = append(attributes, attribute.String("service.name", o.Config.Service))
	t.resource = resource.NewSchemaless(attributes...)
	return t, nil
}

// instance tells replicas apart.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unnamed"
	}
	return host + ":" + strconv.Itoa(os.Getpid())
}

// Start begins to export, if anything is to be traced. A collector that is down is
// no error: spans wait in a queue of bounded size, and what does not fit is lost.
func (t *Tracing) Start(ctx context.Context) error {
	if !t.config.On {
		return nil
	}
	exporter, err := t.exporter(ctx)
	if err != nil {
		return fmt.Errorf("making the exporter of spans: %w", err)
	}
	t.exports.to = exporter
	t.provider = sdk.NewTracerProvider(
		sdk.WithBatcher(t.exports),
		sdk.WithSampler(t.config.Sampler.sampler()),
		sdk.WithResource(t.resource),
	)
	t.tracer = t.provider.Tracer(scope)
	return nil
}

func (t *Tracing) exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	if t.config.GRPC {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(t.config.Endpoint.String()), otlptracegrpc.WithTimeout(t.config.Timeout))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.config.Endpoint.String()), otlptracehttp.WithTimeout(t.config.Timeout))
}

func (s Sampler) sampler() sdk.Sampler {
	root := sdk.TraceIDRatioBased(s.Ratio) // of 1 it is AlwaysSample
	if s.Ratio == 0 {
		root = sdk.NeverSample()
	}
	if s.Parent {
		return sdk.ParentBased(root)
	}
	return root
}

// stopTime bounds the export of the last spans: whoever stops a process waits for
// it, and a collector that is away is not worth the wait.
const stopTime = 2 * time.Second

// Stop exports what is left and ends.
func (t *Tracing) Stop() {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.exports.complain(err, 0, time.Now())
	}
}

// On says whether spans are made; from Start on.
func (t *Tracing) On() bool { return t.provider != nil }

// Tracer makes spans; nil while nothing is traced, so that those who would make
// some need not even ask for the time.
func (t *Tracing) Tracer() trace.Tracer {
	if t.provider == nil {
		return nil
	}
	return t.tracer
}

// FromHTTP is ctx with the span that a caller's headers name, if they name one and
// are to be believed.
func (t *Tracing) FromHTTP(ctx context.Context, h http.Header) context.Context {
	if t.provider == nil || t.config.Alone {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
}

// LogValue is what is told at the start.
func (c Config) LogValue() slog.Value {
	if !c.On {
		return slog.GroupValue(slog.Bool("on", false))
	}
	protocol := "http/protobuf"
	if c.GRPC {
		protocol = "grpc"
	}
	return slog.GroupValue(slog.Bool("on", true), slog.String("endpoint", c.Endpoint.String()), slog.String("protocol", protocol),
		slog.String("sampler", c.Sampler.String()), slog.String("service", c.Service))
}
