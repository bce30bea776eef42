package tracing

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// Handler adds to a line what it was written in the course of: trace_id and
// span_id where there is a span, and what more says of the context. A line that
// has one of them already keeps its own.
func Handler(to slog.Handler, more func(context.Context) []slog.Attr) slog.Handler {
	return handler{Handler: to, more: more}
}

type handler struct {
	slog.Handler
	more func(context.Context) []slog.Attr
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	var add []slog.Attr
	if h.more != nil {
		add = h.more(ctx)
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		add = append(add, slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	if len(add) == 0 {
		return h.Handler.Handle(ctx, r)
	}
	r = r.Clone()
	for _, a := range add {
		if !has(r, a.Key) {
			r.AddAttrs(a)
		}
	}
	return h.Handler.Handle(ctx, r)
}

func has(r slog.Record, key string) (found bool) {
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == key
		return !found
	})
	return found
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{Handler: h.Handler.WithAttrs(attrs), more: h.more}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{Handler: h.Handler.WithGroup(name), more: h.more}
}
