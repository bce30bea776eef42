package tracing_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/atenex/gatehouse/internal/tracing"
)

// begin starts a Tracing from an environment.
func begin(t *testing.T, log *slog.Logger, environ ...string) (*tracing.Tracing, *prometheus.Registry) {
	t.Helper()
	config, _, err := tracing.Read(environ, "gatehouse-test")
	if err != nil {
		t.Fatal(err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	registry := prometheus.NewRegistry()
	tr, err := tracing.New(tracing.Options{Config: config, Version: "v1.2.3", Metrics: registry, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Stop)
	return tr, registry
}

func TestSpansReachTheCollector(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		endpoint func(*receiver, *testing.T) string
		protocol string
	}{
		{"over gRPC", (*receiver).overGRPC, "grpc"},
		{"over HTTP", (*receiver).overHTTP, "http/protobuf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &receiver{}
			tr, registry := begin(t, nil, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.endpoint(r, t), "OTEL_EXPORTER_OTLP_PROTOCOL="+c.protocol,
				"OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test")
			_, span := tr.Tracer().Start(t.Context(), "work")
			span.End()
			tr.Stop() // exports what is left
			if r.spans()["work"] == nil {
				t.Fatalf("spans = %v", r.spans())
			}
			got := r.resource()
			for name, want := range map[string]string{"service.name": "gatehouse-test", "service.version": "v1.2.3", "deployment.environment.name": "test"} {
				if got[name] != want {
					t.Errorf("%s = %q, want %q", name, got[name], want)
				}
			}
			if n := testutil.ToFloat64(counter{registry, "ok"}); n != 1 {
				t.Errorf("%v spans counted, want 1", n)
			}
		})
	}
}

// counter is gatehouse_trace_spans_total of one result.
type counter struct {
	prometheus.Gatherer
	result string
}

func (counter) Describe(chan<- *prometheus.Desc) {}

func (c counter) Collect(out chan<- prometheus.Metric) {
	families, _ := c.Gather()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "gatehouse_trace_spans_total" && m.GetLabel()[0].GetValue() == c.result {
				out <- prometheus.MustNewConstMetric(prometheus.NewDesc(f.GetName(), "", nil, nil), prometheus.CounterValue, m.GetCounter().GetValue())
			}
		}
	}
}

// TestACallIsAChildOfTheCallers has a real gRPC server between.
func TestACallIsAChildOfTheCallers(t *testing.T) {
	t.Parallel()
	const parent, of = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"
	cases := []struct {
		name       string
		environ    []string
		metadata   []string
		method     string
		wantNone   bool
		wantParent string
	}{
		{"the caller's span is the parent", nil, []string{"traceparent", "00-" + of + "-" + parent + "-01"}, "/warden.v1.Warden/Ask", false, parent},
		{"a caller that traces nothing has nothing traced", nil, []string{"traceparent", "00-" + of + "-" + parent + "-00"}, "/warden.v1.Warden/Ask", true, ""},
		{"without a caller's span a trace begins", nil, nil, "/warden.v1.Warden/Ask", false, ""},
		{"nor with one that is malformed", nil, []string{"traceparent", "00-" + of}, "/warden.v1.Warden/Ask", false, ""},
		{"nor with two of them", nil, []string{"traceparent", "00-" + of + "-" + parent + "-01", "traceparent", "00-" + of + "-" + parent + "-01"}, "/warden.v1.Warden/Ask", false, ""},
		{"nor where others are not listened to", []string{"OTEL_PROPAGATORS=none"}, []string{"traceparent", "00-" + of + "-" + parent + "-01"}, "/warden.v1.Warden/Ask", false, ""},
		{"a probe of health is no call", nil, nil, "/grpc.health.v1.Health/Check", true, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &receiver{}
			tr, _ := begin(t, nil, append(c.environ, "OTEL_EXPORTER_OTLP_ENDPOINT="+r.overHTTP(t))...)
			seen := make(chan trace.SpanContext, 1)
			s := grpc.NewServer(tr.ServerOptions()...)
			healthv1.RegisterHealthServer(s, health.NewServer())
			s.RegisterService(&grpc.ServiceDesc{ServiceName: "warden.v1.Warden", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
				MethodName: "Ask",
				Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
					if err := decode(&healthv1.HealthCheckRequest{}); err != nil {
						return nil, err
					}
					return intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/warden.v1.Warden/Ask"}, func(ctx context.Context, _ any) (any, error) {
						seen <- trace.SpanContextFromContext(ctx)
						return &healthv1.HealthCheckResponse{}, nil
					})
				},
			}}}, struct{}{})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = s.Serve(l) }()
			t.Cleanup(s.Stop)
			conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), c.metadata...), patience)
			defer cancel()
			if err := conn.Invoke(ctx, c.method, &healthv1.HealthCheckRequest{}, &healthv1.HealthCheckResponse{}); err != nil {
				t.Fatal(err)
			}
			tr.Stop()
			span := r.spans()["warden.v1.Warden/Ask"]
			if c.wantNone {
				if len(r.spans()) != 0 {
					t.Errorf("spans = %v", r.spans())
				}
				return
			}
			if span == nil {
				t.Fatalf("spans = %v", r.spans())
			}
			if got := hex.EncodeToString(span.GetParentSpanId()); got != c.wantParent {
				t.Errorf("parent = %q, want %q", got, c.wantParent)
			}
			if inside := <-seen; inside.SpanID().String() != hex.EncodeToString(span.GetSpanId()) {
				t.Error("who answers is not in the span")
			}
		})
	}
}

func TestACollectorThatIsDownIsToldOnceAMinute(t *testing.T) {
	t.Parallel()
	// Nobody listens on a port that was just given back.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	refuses := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden) // no failure that is tried again
	})}
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = refuses.Serve(at) }()
	t.Cleanup(func() { _ = refuses.Close() })

	for _, c := range []struct{ name, address string }{{"gone", l.Addr().String()}, {"refusing", at.Addr().String()}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			said := &lines{}
			tr, registry := begin(t, slog.New(slog.NewJSONHandler(said, nil)), "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+c.address)
			start := time.Now()
			for range 10_000 { // several queues full
				_, span := tr.Tracer().Start(t.Context(), "lost")
				span.End()
			}
			if took := time.Since(start); took > patience {
				t.Errorf("10,000 spans took %v", took)
			}
			tr.Stop()
			if n := said.count("spans are lost"); n != 1 {
				t.Errorf("%d lines, want 1:\n%s", n, said)
			}
			if c.name == "refusing" && testutil.ToFloat64(counter{registry, "error"}) == 0 {
				t.Error("no lost span was counted")
			}
		})
	}
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

// It runs beside no other test, which would start goroutines of its own.
func TestNothingIsStartedWhereNothingIsTraced(t *testing.T) { //nolint:paralleltest // counts goroutines
	before := runtime.NumGoroutine()
	tr, registry := begin(t, nil)
	if tr.On() || tr.Tracer() != nil || tr.ServerOptions() != nil {
		t.Error("something is on")
	}
	ctx := t.Context()
	header := http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}
	if n := testing.AllocsPerRun(100, func() { _ = tr.FromHTTP(ctx, header) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines more", after-before)
	}
	// The figures stand at zero all the same.
	if n := testutil.CollectAndCount(counter{registry, "ok"}); n != 1 {
		t.Errorf("%d series", n)
	}
	tr.Stop()
}

func TestLinesSayWhichRequestAndTraceTheyAreOf(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	type key struct{}
	log := slog.New(tracing.Handler(slog.NewJSONHandler(&out, nil), func(ctx context.Context) []slog.Attr {
		if id, ok := ctx.Value(key{}).(string); ok {
			return []slog.Attr{slog.String("request_id", id)}
		}
		return nil
	})).With("service", "x")
	in := trace.ContextWithSpanContext(context.WithValue(t.Context(), key{}, "r-1"), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2},
	}))
	cases := []struct {
		name    string
		ctx     context.Context
		args    []any
		wantID  any
		wantTID any
	}{
		{"both, where both are known", in, nil, "r-1", "01000000000000000000000000000000"},
		{"a line's own counts", in, []any{"request_id", "own"}, "own", "01000000000000000000000000000000"},
		{"nothing where nothing is known", t.Context(), nil, nil, nil},
	}
	for _, c := range cases {
		out.Reset()
		log.InfoContext(c.ctx, "m", c.args...)
		var got map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got["request_id"] != c.wantID || got["trace_id"] != c.wantTID || strings.Count(out.String(), "request_id") > 1 {
			t.Errorf("%s: %s", c.name, out.String())
		}
	}
}
