package verified

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type observer struct{ hits, misses, evictions prometheus.Counter }

func newObserver(registerer prometheus.Registerer, m *memory) (*observer, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "gatehouse_authz_token_cache_" + name, Help: help})
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatehouse_authz_token_cache_" + name, Help: help}, read)
	}
	o := &observer{
		hits:      counter("hits_total", "Tokens whose verification was remembered."),
		misses:    counter("misses_total", "Tokens that were verified, well or not."),
		evictions: counter("evictions_total", "Tokens that were forgotten because memory was full."),
	}
	for _, collector := range []prometheus.Collector{
		o.hits, o.misses, o.evictions,
		gauge("entries", "Verified tokens in memory.", func() float64 {
			entries, _ := m.figures()
			return float64(entries)
		}),
		gauge("bytes", "Memory spent on them.", func() float64 {
			_, bytes := m.figures()
			return float64(bytes)
		}),
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("registering the metrics of the cache of tokens: %w", err)
		}
	}
	return o, nil
}
