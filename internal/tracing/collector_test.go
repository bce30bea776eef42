package tracing_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// patience bounds every wait for something that is bound to happen.
const patience = 10 * time.Second

// receiver is an OTLP collector that keeps what it is sent.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex
	got []*tracev1.ResourceSpans
}

func (r *receiver) Export(_ context.Context, sent *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, sent.GetResourceSpans()...)
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	sent := &collector.ExportTraceServiceRequest{}
	if q.URL.Path != "/v1/traces" || proto.Unmarshal(body, sent) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer, _ := r.Export(q.Context(), sent)
	text, _ := proto.Marshal(answer)
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(text)
}

// overGRPC is the receiver's URL.
func (r *receiver) overGRPC(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return "http://" + l.Addr().String()
}

func (r *receiver) overHTTP(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s.URL
}

// spans are those that came so far, by name.
func (r *receiver) spans() map[string]*tracev1.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]*tracev1.Span{}
	for _, rs := range r.got {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				out[s.GetName()] = s
			}
		}
	}
	return out
}

// resource is what the first spans say of who sent them.
func (r *receiver) resource() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]string{}
	for _, rs := range r.got {
		for _, a := range rs.GetResource().GetAttributes() {
			out[a.GetKey()] = a.GetValue().GetStringValue()
		}
	}
	return out
}
