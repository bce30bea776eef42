package activity

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// observer counts, and logs when changes begin and cease to be heard.
type observer struct {
	log *slog.Logger

	hits, misses, evictions prometheus.Counter
	invalidated             struct{ user, session, company, flush prometheus.Counter }
	lag                     prometheus.Histogram
	reconnects              prometheus.Counter

	mu     sync.Mutex
	heard  bool
	once   bool   // changes were heard at some time
	reason string // the last one that was logged; empty while heard
}

func newObserver(registerer prometheus.Registerer, log *slog.Logger, c *Cache) (*observer, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	o := &observer{
		log:        log,
		hits:       counter("gatehouse_authz_cache_hits_total", "Lookups of a user that were answered from memory."),
		misses:     counter("gatehouse_authz_cache_misses_total", "Lookups of a user that asked the database."),
		evictions:  counter("gatehouse_authz_cache_evictions_total", "Users that were forgotten because memory was full."),
		reconnects: counter("gatehouse_authz_revocation_reconnects_total", "Times that changes were heard again after they were not."),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatehouse_authz_revocation_lag_seconds",
			Help:    "Time from sending a heartbeat through the database's notices to hearing it: how far behind a revocation is at most.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
	}
	invalidations := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_authz_cache_invalidations_total",
		Help: "Notices of a change, by what was changed (user, session, company, or flush for everything).",
	}, []string{"kind"})
	o.invalidated.user = invalidations.WithLabelValues("user")
	o.invalidated.session = invalidations.WithLabelValues("session")
	o.invalidated.company = invalidations.WithLabelValues("company")
	o.invalidated.flush = invalidations.WithLabelValues("flush")
	for _, collector := range []prometheus.Collector{
		o.hits, o.misses, o.evictions, o.reconnects, o.lag, invalidations,
		gauge("gatehouse_authz_cache_entries", "Users in memory, one for each session and company that they come with.", func() float64 {
			entries, _ := c.memory.figures()
			return float64(entries)
		}),
		gauge("gatehouse_authz_cache_bytes", "Memory spent on them.", func() float64 {
			_, bytes := c.memory.figures()
			return float64(bytes)
		}),
		gauge("gatehouse_authz_revocation_listener_live", "1 while changes in the database are heard and memory is used, else 0.", func() float64 {
			if c.live(c.now()) {
				return 1
			}
			return 0
		}),
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("registering the metrics of the cache: %w", err)
		}
	}
	return o, nil
}

func (o *observer) alive(lag time.Duration) {
	o.lag.Observe(lag.Seconds())
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.heard {
		return
	}
	if o.once {
		o.reconnects.Inc()
	}
	o.heard, o.once, o.reason = true, true, ""
	o.log.Info("revocations are heard: checks are answered from memory")
}

func (o *observer) lost(reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.heard && o.reason == reason {
		return
	}
	o.heard, o.reason = false, reason
	o.log.Warn("revocations are not heard: checks read PostgreSQL", "reason", reason)
}
