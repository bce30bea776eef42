package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// spans is an OpenTelemetry collector that keeps what it is sent.
type spans struct {
	collector.UnimplementedTraceServiceServer
	url string
	mu  sync.Mutex
	got []told
}

// told is a span and who sent it.
type told struct {
	*tracev1.Span
	service string
}

func (s told) id() string     { return hex.EncodeToString(s.GetSpanId()) }
func (s told) parent() string { return hex.EncodeToString(s.GetParentSpanId()) }
func (s told) trace() string  { return hex.EncodeToString(s.GetTraceId()) }

func newSpans(t *testing.T) *spans {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &spans{url: "http://" + l.Addr().String()}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s
}

func (s *spans) Export(_ context.Context, sent *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range sent.GetResourceSpans() {
		service := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, in := range of.GetScopeSpans() {
			for _, one := range in.GetSpans() {
				s.got = append(s.got, told{one, service})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// all are those that came so far and that keep takes.
func (s *spans) all(keep func(told) bool) []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []told
	for _, one := range s.got {
		if keep(one) {
			out = append(out, one)
		}
	}
	return out
}

// line is the way from a span up to the beginning of its trace, as far as it came.
func (s *spans) line(from told) []told {
	way := []told{from}
	for from.parent() != "" {
		above := s.all(func(x told) bool { return x.id() == from.parent() && x.trace() == from.trace() })
		if len(above) != 1 {
			break
		}
		from = above[0]
		way = append(way, from)
	}
	return way
}

// names is a line as text, the beginning first.
func names(line []told) string {
	var out []string
	for _, s := range slices.Backward(line) {
		out = append(out, s.service+": "+s.GetName())
	}
	return strings.Join(out, " > ")
}

// hurry has Envoy send its spans as they come; its own interval is 5 s.
func hurry(config []byte) []byte {
	const beside = "re2.max_program_size.error_level:"
	before, after, _ := strings.Cut(string(config), beside)
	margin := before[strings.LastIndex(before, "\n"):] // a line's end and its indentation
	return []byte(before + "tracing.opentelemetry.min_flush_spans: 1" + margin + beside + after)
}

// TestOneTraceLeadsFromTheEdgeToTheDatabase goes through the real Envoy, authz,
// login and PostgreSQL to a collector.
func TestOneTraceLeadsFromTheEdgeToTheDatabase(t *testing.T) {
	t.Parallel()
	got := newSpans(t)
	s := newStack(t, postgrestest.New(t), map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": got.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
		"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=e2e",
	})
	s.command("migrate")
	s.startAuthz()
	s.startLogin()
	s.startEnvoyWith(hurry)
	eventually(t, "the gate answers from authz", func() error { return s.get(strictRoute, nil).is(http.StatusUnauthorized) })
	u := s.withPassword(s.newMember())

	// A stranger's own trace, which is to be kept, with a secret in the query.
	const stranger = "4bf92f3577b34da6a3ce929d0e0e4736"
	header := bearer(s.logIn(u))
	header.Set("Traceparent", "00-"+stranger+"-00f067aa0ba902b7-01")
	header.Set("X-Request-Id", "no-uuid") // which must not hide the request either
	s.query.forget()
	s.get(strictRoute+"?access_token=secret-in-the-query", header).expect(t, accepted)
	upstream := s.query.only(t).Header.Get("Traceparent")
	if upstream == "" || strings.Contains(upstream, stranger) || !strings.HasSuffix(upstream, "-01") {
		t.Errorf("the upstream got traceparent %q", upstream)
	}
	s.tryLogin("nobody-knows-me@example.com", "test-password-that-is-wrong")
	for _, ops := range []string{s.authzOps, s.loginOps} {
		if text := scrape(t, ops, "application/openmetrics-text; version=1.0.0"); !strings.Contains(text, `# {trace_id="`) {
			t.Errorf("%s gives no example of a trace in the OpenMetrics format", ops)
		}
		if text := scrape(t, ops, "text/plain"); strings.Contains(text, "trace_id") {
			t.Errorf("%s gives examples in a format that has none", ops)
		}
	}

	for _, want := range []struct{ leaf, service, way string }{
		{"postgres standings", "gatehouse-authz", "gatehouse-envoy: GET *> gatehouse-envoy: *> gatehouse-authz: envoy.service.auth.v3.Authorization/Check > *gatehouse-authz: postgres standings"},
		{"verify password", "gatehouse-login", "gatehouse-envoy: POST *> gatehouse-envoy: upstream login > gatehouse-login: login login > gatehouse-login: verify password"},
		{"postgres account_by_email", "gatehouse-login", "gatehouse-envoy: POST *> gatehouse-envoy: upstream login > gatehouse-login: login login > gatehouse-login: postgres account_by_email"},
	} {
		eventually(t, "the trace of "+want.leaf+" is whole", func() error {
			ways := []string{"nothing"}
			for _, leaf := range got.all(func(x told) bool { return x.GetName() == want.leaf && x.service == want.service }) {
				way := names(got.line(leaf))
				if likeGlob(want.way, way) {
					return nil
				}
				ways = append(ways, way)
			}
			return fmt.Errorf("only %s", strings.Join(ways, "\n"))
		})
	}

	// Envoy says what upstreams are told: its own span is their parent.
	eventually(t, "the span of the upstream", func() error {
		parts := strings.Split(upstream, "-")
		if len(got.all(func(x told) bool {
			return x.trace() == parts[1] && x.id() == parts[2] && x.service == "gatehouse-envoy"
		})) != 1 {
			return fmt.Errorf("no span %s", upstream)
		}
		return nil
	})
	if n := got.all(func(x told) bool { return x.trace() == stranger }); len(n) != 0 {
		t.Errorf("%d spans in the stranger's trace", len(n))
	}
	for _, span := range got.all(func(told) bool { return true }) {
		text := protojson.Format(span.Span)
		for _, secret := range []string{"secret-in-the-query", u.email, "nobody-knows-me", "test-password", "SELECT u", header.Get("Authorization")} {
			if strings.Contains(text, secret) {
				t.Errorf("a span of %s holds %q:\n%s", span.service, secret, text)
			}
		}
	}
}

// likeGlob knows * alone.
func likeGlob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if !strings.HasPrefix(text, parts[0]) || !strings.HasSuffix(text, parts[len(parts)-1]) {
		return false
	}
	for _, p := range parts {
		at := strings.Index(text, p)
		if at < 0 {
			return false
		}
		text = text[at+len(p):]
	}
	return true
}
