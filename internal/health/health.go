// Package health is the operations face of a service, apart from the traffic
// it serves: /livez (the process answers), /readyz (it can do its work), /metrics
// and /log-level.
//
// It must never know what makes a service ready.
package health

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Ops serves /livez, /readyz, /metrics and /log-level to GET and HEAD, and takes
// another log level by PUT. ready returns nil when the service can work; its error
// text is shown to whoever asks, so it must hold no secret.
func Ops(metrics prometheus.Gatherer, ready func() error, level *LogLevel, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			text(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		text(w, http.StatusOK, "ok\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		// One collector that fails must not hide the others from the person
		// who is paged.
		ErrorHandling:     promhttp.ContinueOnError,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelError),
		EnableOpenMetrics: true,
		Timeout:           10 * time.Second,
	}))
	get, put := logLevel(level, log)
	mux.HandleFunc("GET "+levelPath, get)
	mux.HandleFunc("PUT "+levelPath, put)
	return mux
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A prober that has gone away is its own affair.
	_, _ = w.Write([]byte(body))
}

// NewServer returns an HTTP server for the operations face, with bounds on what
// a caller can hold open. It does not listen yet.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       75 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
