package keyring

import (
	"fmt"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reloads   *prometheus.CounterVec
	refreshes *prometheus.CounterVec
	unknown   *prometheus.CounterVec
	foreign   prometheus.Gauge
}

// newMetrics registers those of what there is to look after.
func newMetrics(registerer prometheus.Registerer, r *Ring) (metrics, error) {
	var labels prometheus.Labels
	if r.with.Issuer != "" {
		labels = prometheus.Labels{"issuer": r.with.Issuer}
	}
	// One name has one set of labels, so that those of several issuers have another.
	name := func(alone, several string) string {
		if labels == nil {
			return alone
		}
		return several
	}
	m := metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_key_set_reloads_total",
			Help: "Changes of the key set in its file, by result (ok, refused).",
		}, []string{"result"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("gatehouse_jwks_refreshes_total", "gatehouse_issuer_jwks_refreshes_total"), ConstLabels: labels,
			Help: "Fetches of the other issuer's key set, by result (ok, error).",
		}, []string{"result"}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("gatehouse_jwks_unknown_kids_total", "gatehouse_issuer_jwks_unknown_kids_total"), ConstLabels: labels,
			Help: "Tokens that named a key which was not known, by what was done: awaited a fetch, absent from the last one, throttled, crowded out.",
		}, []string{"result"}),
		foreign: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("gatehouse_jwks_keys", "gatehouse_issuer_jwks_keys"), ConstLabels: labels,
			Help: "Keys of the other issuer that are in force.",
		}),
	}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: name("gatehouse_jwks_age_seconds", "gatehouse_issuer_jwks_age_seconds"), ConstLabels: labels,
		Help: "Time since the other issuer's key set was fetched well; +Inf: it never was.",
	}, func() float64 {
		if seconds, ever := r.remote.age(time.Now()); ever {
			return seconds
		}
		return math.Inf(1)
	})
	var collectors []prometheus.Collector
	if r.with.File != "" {
		collectors = append(collectors, m.reloads)
	}
	if r.with.URL != nil {
		collectors = append(collectors, m.refreshes, m.unknown, m.foreign, age)
	}
	for _, c := range collectors {
		if err := registerer.Register(c); err != nil {
			return metrics{}, fmt.Errorf("registering the metrics of the keys: %w", err)
		}
	}
	for _, result := range []string{"ok", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	for _, result := range []string{"ok", "error"} {
		m.refreshes.WithLabelValues(result)
	}
	for _, result := range []string{"awaited", "absent", "throttled", "crowded"} {
		m.unknown.WithLabelValues(result)
	}
	return m, nil
}
