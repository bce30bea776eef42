package tracing

import (
	"context"
	"path"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ServerOptions make a span of each call that a gRPC server answers, as a child of
// the caller's; none while nothing is traced. Probes of health are no calls.
//
// OpenTelemetry's own handler of gRPC statistics does that too, along with metrics
// that nobody reads here, an event for each message and thirty allocations a call.
func (t *Tracing) ServerOptions() []grpc.ServerOption {
	if t.provider == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.UnaryInterceptor(t.call)}
}

func (t *Tracing) call(ctx context.Context, asked any, info *grpc.UnaryServerInfo, answer grpc.UnaryHandler) (any, error) {
	if strings.HasPrefix(info.FullMethod, "/grpc.health.") {
		return answer(ctx, asked)
	}
	if !t.config.Alone {
		ctx = propagation.TraceContext{}.Extract(ctx, incoming{ctx})
	}
	service, method := path.Split(strings.TrimPrefix(info.FullMethod, "/"))
	ctx, span := t.tracer.Start(ctx, strings.TrimPrefix(info.FullMethod, "/"), trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	if span.IsRecording() {
		span.SetAttributes(attribute.String("rpc.system.name", "grpc"),
			attribute.String("rpc.service", strings.TrimSuffix(service, "/")), attribute.String("rpc.method", method))
	}
	out, err := answer(ctx, asked)
	if err != nil && span.IsRecording() {
		code := status.Code(err)
		span.SetAttributes(attribute.String("rpc.response.status_code", code.String()))
		span.SetStatus(codes.Error, code.String())
	}
	return out, err
}

// incoming reads a call's metadata without a copy of all of it.
type incoming struct{ ctx context.Context }

func (i incoming) Get(key string) string {
	values := metadata.ValueFromIncomingContext(i.ctx, key)
	// Of two, nobody can say which one is meant (W3C Trace Context, 3.2).
	if len(values) != 1 && key == "traceparent" {
		return ""
	}
	return strings.Join(values, ",")
}

func (incoming) Set(string, string) {}
func (incoming) Keys() []string     { return nil }
