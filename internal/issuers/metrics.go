package issuers

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reloads *prometheus.CounterVec
	issuers prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) (metrics, error) {
	m := metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_issuers_reloads_total",
			Help: "Changes of the file of issuers or of a file of keys that it names, by result (ok, refused).",
		}, []string{"result"}),
		issuers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_issuers",
			Help: "Issuers beside our own whose tokens are accepted.",
		}),
	}
	for _, c := range []prometheus.Collector{m.reloads, m.issuers} {
		if err := registerer.Register(c); err != nil {
			return metrics{}, fmt.Errorf("registering the metrics of the issuers: %w", err)
		}
	}
	for _, result := range []string{"ok", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	return m, nil
}

// shelf is a registerer that can take back all that was registered through it.
type shelf struct {
	prometheus.Registerer
	held []prometheus.Collector
}

func (s *shelf) Register(c prometheus.Collector) error {
	if err := s.Registerer.Register(c); err != nil {
		return err
	}
	s.held = append(s.held, c)
	return nil
}

func (s *shelf) clear() {
	for _, c := range s.held {
		s.Unregister(c)
	}
	s.held = nil
}
