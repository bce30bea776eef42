package login

import (
	"context"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/atenex/gatehouse/internal/password"
)

// Spans makes a span of each request; its zero value makes none.
//
// They are named by routes and steps, and hold what the line of the log holds: no
// address that somebody typed, no header and nothing of a body.
type Spans struct {
	Tracer trace.Tracer
	// Inherit gives a context the caller's span, of which its headers speak.
	Inherit func(context.Context, http.Header) context.Context
}

const spanTracer = "github.com/atenex/gatehouse/login"

// begin begins the span of a request; nil: there is none.
func (s Spans) begin(ctx context.Context, r *http.Request, at route) (context.Context, trace.Span) {
	if s.Tracer == nil {
		return ctx, nil
	}
	if s.Inherit != nil {
		ctx = s.Inherit(ctx, r.Header)
	}
	return s.Tracer.Start(ctx, "login "+at.name, trace.WithSpanKind(trace.SpanKindServer))
}

// tell ends it.
func (x *exchange) tell(span trace.Span, at route, a answer) {
	if span == nil {
		return
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", methodName(x.r.Method)), attribute.String("http.route", at.name),
			attribute.Int("http.response.status_code", a.status), attribute.String("gatehouse.result", a.result))
		if !x.user.IsZero() {
			span.SetAttributes(attribute.String("gatehouse.user_id", x.user.String()))
		}
		if a.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, a.result)
		}
	}
	span.End()
}

// step begins the span of something slow within a request that is recorded; end gets
// what became of it, of which the span has one word.
func step(ctx context.Context, name string) (end func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return func(error) {}
	}
	_, span := parent.TracerProvider().Tracer(spanTracer).Start(ctx, name)
	return func(err error) {
		if err != nil {
			kind := "failed"
			switch {
			case errors.Is(err, password.ErrBusy):
				kind = "busy"
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
}

// awaitPermit, verifyPassword and hashPassword are password's, each with a span: they are what takes the
// time of a login.
func awaitPermit(ctx context.Context, passwords *password.Hasher) (*password.Permit, error) {
	end := step(ctx, "wait to hash")
	permit, err := passwords.Admit(ctx)
	end(err)
	return permit, err
}

func verifyPassword(ctx context.Context, permit *password.Permit, stored, given string) password.Match {
	defer step(ctx, "verify password")(nil) // another password is no error
	return permit.Verify(stored, given)
}

func hashPassword(ctx context.Context, permit *password.Permit, given string) (string, error) {
	end := step(ctx, "hash password")
	hash, err := permit.Hash(given)
	end(err)
	return hash, err
}
