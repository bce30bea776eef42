package password

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	hashes   *prometheus.HistogramVec
	queue    prometheus.Histogram
	inflight prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	with := promauto.With(r)
	m := &metrics{
		hashes: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_login_hash_seconds", Help: "Time to compute one password hash.",
			Buckets: []float64{.01, .025, .05, .1, .15, .2, .3, .5, .75, 1, 2, 4},
		}, []string{"scheme"}),
		queue: with.NewHistogram(prometheus.HistogramOpts{
			Name: "gatehouse_login_hash_queue_seconds", Help: "Time that a password waited for its turn to be hashed.",
			Buckets: []float64{.001, .01, .05, .1, .25, .5, 1, 1.5, 2},
		}),
		inflight: with.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_login_hash_inflight", Help: "Permits to hash passwords in use.",
		}),
	}
	for _, s := range []Scheme{Argon2id, Bcrypt} {
		m.hashes.WithLabelValues(string(s))
	}
	return m
}

func (m *metrics) observe(s Scheme, d time.Duration) {
	m.hashes.WithLabelValues(string(s)).Observe(d.Seconds())
}

func (m *metrics) granted(waited time.Duration) {
	m.queue.Observe(waited.Seconds())
	m.inflight.Inc()
}
