package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// traced begins the span of a question or a change, named as it is for metrics. No
// SQL and no argument is in it: of an argument nobody could say what it gives away,
// and of the SQL there is one text for each name.
//
// A whole transaction is one span, with an event for each thing that it waited for:
// what somebody wants to know of a slow one is which step that was.
func (s *Store) traced(ctx context.Context, q query) (context.Context, trace.Span) {
	if s.tracer == nil {
		return ctx, nil
	}
	ctx, span := s.tracer.Start(ctx, "postgres "+string(q), trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("db.system.name", "postgresql"),
			attribute.String("db.operation.name", string(q)), attribute.String("db.namespace", s.database),
			attribute.String("server.address", s.server))
	}
	return ctx, span
}

// ended ends it. The error's text stays out: the database quotes arguments there.
func ended(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil && !answered(err) && span.IsRecording() {
		kind := "connection"
		var refused *pgconn.PgError
		switch {
		case errors.As(err, &refused):
			kind = refused.Code
			span.SetAttributes(attribute.String("db.response.status_code", refused.Code))
		case errors.Is(err, context.DeadlineExceeded):
			kind = "timeout"
		case errors.Is(err, context.Canceled):
			kind = "cancelled"
		}
		span.SetAttributes(attribute.String("error.type", kind))
		span.SetStatus(codes.Error, kind)
	}
	span.End()
}

// steps hears from pgx what a question waited for, and notes it on its span.
type steps struct{}

var (
	_ pgx.QueryTracer       = steps{}
	_ pgx.ConnectTracer     = steps{}
	_ pgxpool.AcquireTracer = steps{}
)

func (steps) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd notes the first word of what PostgreSQL says it did, such as SELECT.
func (steps) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, did pgx.TraceQueryEndData) {
	if did.Err != nil {
		note(ctx, "statement failed")
		return
	}
	word, _, _ := strings.Cut(did.CommandTag.String(), " ")
	note(ctx, "statement done", attribute.String("db.statement.kind", word))
}

func (steps) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return ctx
}

func (steps) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, got pgxpool.TraceAcquireEndData) {
	if got.Err == nil {
		note(ctx, "connection acquired")
	}
}

func (steps) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (steps) TraceConnectEnd(ctx context.Context, did pgx.TraceConnectEndData) {
	if did.Err == nil {
		note(ctx, "connection opened")
	}
}

func note(ctx context.Context, event string, attributes ...attribute.KeyValue) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent(event, trace.WithAttributes(attributes...))
	}
}
