package tracing

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// quiet is how seldom a collector that is away is complained about.
const quiet = time.Minute

// exports stands before the exporter: it counts, and says what fails once in a
// while. Left to itself, the SDK would write a line of its own for each batch.
type exports struct {
	to    sdk.SpanExporter
	log   *slog.Logger
	spans *prometheus.CounterVec

	mu   sync.Mutex
	said time.Time
	lost int // spans, since then
}

func newExports(log *slog.Logger) *exports {
	e := &exports{log: log, spans: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_trace_spans_total", Help: "Spans sent to the collector, by how that went (ok, error).",
	}, []string{"result"})}
	for _, result := range []string{"ok", "error"} {
		e.spans.WithLabelValues(result)
	}
	return e
}

// ExportSpans returns no error, which nobody could do anything about.
func (e *exports) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.to.ExportSpans(ctx, spans)
	if err != nil {
		e.spans.WithLabelValues("error").Add(float64(len(spans)))
		e.complain(err, len(spans), time.Now())
		return nil
	}
	e.spans.WithLabelValues("ok").Add(float64(len(spans)))
	return nil
}

func (e *exports) Shutdown(ctx context.Context) error { return e.to.Shutdown(ctx) }

func (e *exports) complain(err error, lost int, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost += lost
	if !e.said.IsZero() && now.Sub(e.said) < quiet {
		return
	}
	e.log.Warn("spans are lost", "error", err, "spans", e.lost)
	e.said, e.lost = now, 0
}
