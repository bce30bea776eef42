package health_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/health"
)

func TestOps(t *testing.T) {
	registry := prometheus.NewRegistry()
	seen := prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_seen_total", Help: "Seen."})
	registry.MustRegister(seen)
	var unready error
	ops := health.Ops(registry, func() error { return unready }, health.NewLogLevel(slog.LevelInfo), slog.New(slog.DiscardHandler))

	cases := []struct {
		name         string
		method, path string
		unready      error
		wantStatus   int
		wantBody     string
	}{
		{"a process that runs is live", "GET", "/livez", errors.New("x"), 200, "ok\n"},
		{"a service that can work is ready", "GET", "/readyz", nil, 200, "ok\n"},
		{"a service that cannot work says why", "GET", "/readyz", errors.New("no database yet"), 503, "no database yet\n"},
		{"metrics of the registry are served", "GET", "/metrics", nil, 200, "gatehouse_seen_total 0"},
		{"nothing else is there", "GET", "/debug/pprof/", nil, 404, ""},
		{"nothing can be posted", "POST", "/livez", nil, 405, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			unready = c.unready
			w := httptest.NewRecorder()
			ops.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.wantStatus || !strings.Contains(w.Body.String(), c.wantBody) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, c.wantStatus, c.wantBody)
			}
			if w.Code == http.StatusServiceUnavailable && w.Header().Get("Cache-Control") != "no-store" {
				t.Error("an answer about health may be stored by a cache")
			}
		})
	}
}
