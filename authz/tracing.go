package authz

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// The names of the spans below that of a check.
const (
	tracerName = "github.com/atenex/gatehouse/authz"
	spanVerify = "verify token"
	spanLookup = "look up user"
)

// span is that of a check, which whoever serves gRPC has begun, or one that only
// stands for a trace of somebody else's; the zero one is none.
type span struct{ trace.Span }

// spanOf finds it, which takes a walk through all that gRPC has put into ctx.
func spanOf(ctx context.Context) span { return span{trace.SpanFromContext(ctx)} }

// records reports that something is to be told on it.
func (s span) records() bool { return s.Span != nil && s.IsRecording() }

// sampled reports that somebody keeps the trace that it is a part of.
func (s span) sampled() bool { return s.Span != nil && s.SpanContext().IsSampled() }

// traceID is that of the request, recorded or not; empty: it has none.
func traceID(ctx context.Context) string {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

// tell says on the span what was decided, in the words of the log.
func (s span) tell(r request, d decision) {
	if !s.records() {
		return
	}
	attributes := make([]attribute.KeyValue, 0, 5)
	attributes = append(attributes,
		attribute.String("gatehouse.decision", d.outcome.String()),
		attribute.String("gatehouse.reason", d.reason()),
		attribute.String("gatehouse.mode", d.mode.String()),
	)
	if r.route != "" {
		attributes = append(attributes, attribute.String("gatehouse.route", strings.Clone(r.route)))
	}
	if !d.identity.User.IsZero() {
		attributes = append(attributes, attribute.String("gatehouse.user_id", d.identity.User.String()))
	}
	s.SetAttributes(attributes...)
	if d.outcome == failed { // a refusal is none: the gate has done its work
		s.SetStatus(codes.Error, d.reason())
	}
}

func (t *trail) traced() bool { return t != nil && t.span.records() }

// child begins a span below that of the check.
func (t *trail) child(ctx context.Context, name string) (context.Context, trace.Span) {
	return t.span.TracerProvider().Tracer(tracerName).Start(ctx, name)
}

// failed says on the span of ctx why a step could not be done, in one word: the text of
// an error may quote what it was asked.
func (t *trail) failed(ctx context.Context, err error) {
	if !t.traced() {
		return
	}
	kind := "unavailable"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		kind = "timeout"
	case errors.Is(err, context.Canceled):
		kind = "cancelled"
	}
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("error.type", kind))
	span.SetStatus(codes.Error, kind)
}
