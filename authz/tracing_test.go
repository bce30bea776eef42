package authz_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// traced asks a gate within a span, as whoever serves gRPC begins one, and returns
// what was told of it and of the spans below it.
func traced(t *testing.T, o authz.Options, in *authv3.CheckRequest) (told map[string]string, below []string, id string) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	ctx, span := provider.Tracer("test").Start(t.Context(), "check")
	newGate(t, o).Answer(ctx, wire(t, in), nil)
	span.End()
	told = map[string]string{}
	for _, s := range spans.Ended() {
		if s.Name() != "check" {
			if s.Parent().SpanID() != span.SpanContext().SpanID() {
				t.Errorf("%s is not below the check", s.Name())
			}
			below = append(below, s.Name())
			continue
		}
		for _, a := range s.Attributes() {
			told[string(a.Key)] = a.Value.AsString()
		}
	}
	return told, below, span.SpanContext().TraceID().String()
}

func TestASpanIsToldTheDecision(t *testing.T) {
	known := memory(func(identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, bool) {
		return member(), true
	})
	cases := []struct {
		name      string
		in        *authv3.CheckRequest
		gate      func(*authz.Options)
		want      map[string]string
		wantBelow []string
	}{
		{
			"an allow", request(inCompany()), func(o *authz.Options) { o.Memory = known },
			map[string]string{"gatehouse.decision": "allow", "gatehouse.reason": "ok", "gatehouse.mode": "strict", "gatehouse.route": "query", "gatehouse.user_id": userText},
			[]string{"verify token", "look up user"},
		},
		{
			"a denial of somebody unknown, on a route without a name", request("Bearer x", extension("route", "")), func(*authz.Options) {},
			map[string]string{"gatehouse.decision": "deny", "gatehouse.reason": "token_malformed", "gatehouse.mode": "strict"},
			[]string{"verify token"},
		},
		{
			"a fault", request(inCompany()), func(o *authz.Options) { o.Directory = directory(nil) },
			map[string]string{"gatehouse.decision": "error", "gatehouse.reason": "internal", "gatehouse.mode": "strict", "gatehouse.route": "query", "gatehouse.user_id": userText},
			[]string{"verify token", "look up user"},
		},
		{
			"an open route", request("", extension("auth_mode", "none")), func(*authz.Options) {},
			map[string]string{"gatehouse.decision": "allow", "gatehouse.reason": "ok", "gatehouse.mode": "none", "gatehouse.route": "query"},
			nil,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, token.Rules{}, saying(member()))
			c.gate(&o)
			told, below, _ := traced(t, o, c.in)
			if diff := cmp.Diff(c.want, told); diff != "" {
				t.Error(diff)
			}
			if !slices.Equal(below, c.wantBelow) {
				t.Errorf("the spans below are %q, want %q", below, c.wantBelow)
			}
		})
	}
}

// The look-up is asked in the context of its span, so that a query's comes below it.
func TestAQueryIsBelowTheLookUp(t *testing.T) {
	var inside string
	o := options(t, token.Rules{}, directory(func(ctx context.Context, _ identity.UserID, _ identity.SessionID, _ identity.CompanyID) (identity.Standing, error) {
		inside = trace.SpanFromContext(ctx).(sdktrace.ReadOnlySpan).Name()
		return member(), nil
	}))
	if traced(t, o, request(inCompany())); inside != "look up user" {
		t.Errorf("the directory is asked inside of %q", inside)
	}
}

// What could not be done is an error of its span, and of the check's; a refusal is none.
func TestASpanOfWhatFailedIsAnError(t *testing.T) {
	saying := func(err error) func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error) {
		return func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error) {
			return member(), err
		}
	}
	const secret = "test-secret-of-the-database"
	for _, c := range []struct {
		name string
		err  error
		in   *authv3.CheckRequest
		want map[string]string
	}{
		{"an allow", nil, request(inCompany()), map[string]string{"check": "", "verify token": "", "look up user": ""}},
		{"a refusal", nil, request("Bearer x"), map[string]string{"check": "", "verify token": ""}},
		{"a store that is down", errors.New(secret), request(inCompany()), map[string]string{"check": "unavailable", "verify token": "", "look up user": "unavailable"}},
		{"a store that takes too long", context.DeadlineExceeded, request(inCompany()), map[string]string{"check": "unavailable", "verify token": "", "look up user": "timeout"}},
		{"a caller who went away", context.Canceled, request(inCompany()), map[string]string{"check": "unavailable", "verify token": "", "look up user": "cancelled"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			ctx, span := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test").Start(t.Context(), "check")
			newGate(t, options(t, token.Rules{}, directory(saying(c.err)))).Answer(ctx, wire(t, c.in), nil)
			span.End()
			got := map[string]string{}
			for _, s := range spans.Ended() {
				got[s.Name()] = s.Status().Description
				if (s.Status().Code == codes.Error) != (s.Status().Description != "") {
					t.Errorf("%s: %v", s.Name(), s.Status())
				}
				if text := fmt.Sprint(s.Attributes(), s.Events(), s.Status()); strings.Contains(text, secret) {
					t.Errorf("%s repeats what the database said: %s", s.Name(), text)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheTraceIsNamedInLogRecordAndHistogram(t *testing.T) {
	log, logger := jsonLog(slog.LevelInfo)
	registry := prometheus.NewRegistry()
	var kept recorder
	o := options(t, token.Rules{}, saying(member()))
	o.Logger, o.Registerer, o.Recorder = logger, registry, &kept
	_, _, id := traced(t, o, request(""))
	if got := lines(t, log); len(got) != 1 || got[0]["trace_id"] != id {
		t.Errorf("the log has %v, want trace %s", got, id)
	}
	if len(kept.recorded) != 1 || kept.recorded[0].GetTraceId() != id {
		t.Errorf("the record has %v", kept.recorded)
	}
	if got := exemplars(t, registry); !slices.Equal(got, []string{"trace_id=" + id}) {
		t.Errorf("the exemplars are %q", got)
	}
}

func exemplars(t *testing.T, r prometheus.Gatherer) (found []string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, b := range m.GetHistogram().GetBucket() {
				for _, l := range b.GetExemplar().GetLabel() {
					found = append(found, l.GetName()+"="+l.GetValue())
				}
			}
		}
	}
	return found
}

// A trace that is not sampled is still worth naming where Envoy's log names it, but
// leads nowhere from a histogram.
func TestATraceThatIsNotSampledCostsNothingAndIsNamed(t *testing.T) {
	log, logger := jsonLog(slog.LevelInfo)
	registry := prometheus.NewRegistry()
	o := options(t, token.Rules{}, saying(member()))
	o.Logger, o.Registerer = logger, registry
	id := trace.TraceID{1, 2, 3}
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}}))
	newGate(t, o).Answer(ctx, wire(t, request("")), nil)
	if !strings.Contains(log.String(), id.String()) {
		t.Errorf("the log has %s", log)
	}
	if got := exemplars(t, registry); got != nil {
		t.Errorf("the exemplars are %q", got)
	}
}
