package authz

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/problem"
)

const (
	// otherRoute counts the requests of routes without a name, and of names past
	// the bound.
	otherRoute = "other"
	// maxLearned bounds the names that are counted though they were not
	// configured here: a mesh names its routes itself. They come from an
	// operator's configuration, so the bound is for mistakes.
	maxLearned = 64
)

// observer counts and logs. It never holds a token, an email or a claim.
type observer struct {
	log      *slog.Logger
	throttle throttle

	decisions *prometheus.CounterVec
	duration  prometheus.Histogram
	inFlight  atomic.Int64
	// lookups are those that were answered, lookupErrors the others.
	lookups, lookupErrors prometheus.Observer

	// routes has the counters of each route, so that counting neither hashes labels
	// nor takes a lock. It is replaced, never changed.
	routes  atomic.Pointer[map[string]*counters]
	learn   sync.Mutex
	learned int
}

func newObserver(registerer prometheus.Registerer, log *slog.Logger, routes []string) (*observer, error) {
	o := &observer{
		log: log,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_authz_decisions_total",
			Help: "Answers given to Envoy, by decision (allow, deny, error), reason and route.",
		}, []string{"decision", "reason", "route"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gatehouse_authz_check_duration_seconds",
			Help: "Time from a check's arrival in the service to its answer.",
			// A check from memory takes a microsecond, one with a look-up about a
			// millisecond; the time-out is 1.5 s. No native histogram: it would
			// allocate with each check.
			Buckets: []float64{.000001, .0000025, .000005, .00001, .000025, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2},
		}),
	}
	lookups := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "gatehouse_authz_user_lookup_duration_seconds",
		Help:                            "Time that the database took to answer the checks that memory could not, by result (ok, error).",
		Buckets:                         []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"result"})
	o.lookups, o.lookupErrors = lookups.WithLabelValues("ok"), lookups.WithLabelValues("error")
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_authz_checks_in_flight",
		Help: "Checks that are being answered.",
	}, func() float64 { return float64(o.inFlight.Load()) })
	for _, c := range []prometheus.Collector{o.decisions, o.duration, inFlight, lookups} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of authz: %w", err)
		}
	}
	table := map[string]*counters{otherRoute: o.counters(otherRoute)}
	for _, name := range routes {
		if name = printable(name); name != "" {
			table[name] = o.counters(name)
		}
	}
	o.routes.Store(&table)
	return o, nil
}

// counters are those of one route: of allows, and of refusals by their reason.
type counters struct {
	allowed prometheus.Counter
	refused map[string]prometheus.Counter
}

// counters starts every reason of a route at zero, so that a first denial is
// an increase and not a series that was never there.
func (o *observer) counters(route string) *counters {
	out := &counters{
		allowed: o.decisions.WithLabelValues(allowed.String(), reasonOK, route),
		refused: map[string]prometheus.Counter{},
	}
	for _, p := range problem.Decisions() {
		decision := denied
		if p.IsFault() {
			decision = failed
		}
		out.refused[p.Reason] = o.decisions.WithLabelValues(decision.String(), p.Reason, route)
	}
	return out
}

// count adds one to a route's counter for a decision.
func (o *observer) count(route string, d *decision) {
	of, known := (*o.routes.Load())[route]
	if !known {
		of = o.learnRoute(route)
	}
	if d.outcome == allowed {
		of.allowed.Inc()
		return
	}
	c, known := of.refused[d.reason()]
	if !known { // a problem that is no row of section 4 was answered
		c = of.refused[problem.Internal.Reason]
	}
	c.Inc()
}

func (o *observer) learnRoute(route string) *counters {
	o.learn.Lock()
	defer o.learn.Unlock()
	table := *o.routes.Load()
	if known, ok := table[route]; ok {
		return known
	}
	if route == "" || o.learned == maxLearned {
		return table[otherRoute]
	}
	o.learned++
	route = strings.Clone(route) // it is a part of all that Envoy sent
	table = maps.Clone(table)
	table[route] = o.counters(route)
	o.routes.Store(&table)
	return table[route]
}

func (o *observer) lookedUp(took time.Duration, err error) {
	if err != nil {
		o.lookupErrors.Observe(took.Seconds())
		return
	}
	o.lookups.Observe(took.Seconds())
}

// decided counts and logs one answer.
func (o *observer) decided(ctx context.Context, s span, r *request, d *decision, start time.Time, took time.Duration) {
	o.count(r.route, d)
	if exemplary, ok := o.duration.(prometheus.ExemplarObserver); ok && s.sampled() {
		exemplary.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": traceID(ctx)})
	} else {
		o.duration.Observe(took.Seconds())
	}
	o.line(ctx, r, d, took, start.Add(took))
}

// salvage counts and logs an answer whose making panicked, perhaps in here.
func (o *observer) salvage(ctx context.Context, r *request, d *decision) {
	defer func() { _ = recover() }() // there is nobody left to tell
	o.count(r.route, d)
	o.line(ctx, r, d, 0, time.Time{})
}

// unrecorded tells of a decision that could not be recorded.
func (o *observer) unrecorded(ctx context.Context, thrown any, now time.Time) {
	if o.throttle.admit("unrecorded", now) {
		o.log.LogAttrs(ctx, slog.LevelError, "a decision could not be recorded",
			slog.String("panic", fmt.Sprint(thrown)), slog.String("stack", string(debug.Stack())))
	}
}

// line writes one line for a decision: denials at INFO, because someone will
// ask why they were refused; allows at DEBUG, because Envoy's access log has
// each of them already; errors at ERROR with their cause, and only the first
// few of each second, because a database that is down fails every request.
func (o *observer) line(ctx context.Context, r *request, d *decision, took time.Duration, now time.Time) {
	for _, s := range o.throttle.due(now) {
		o.log.LogAttrs(ctx, slog.LevelError, "more checks failed than were logged",
			slog.String("reason", s.reason), slog.Int("count", s.count))
	}
	level := slog.LevelError
	switch d.outcome {
	case allowed:
		level = slog.LevelDebug
	case denied:
		level = slog.LevelInfo
	case failed:
		if !o.throttle.admit(d.reason(), now) {
			return
		}
	}
	if !o.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 11)
	put := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	put("request_id", r.id)
	put("trace_id", traceID(ctx))
	put("decision", d.outcome.String())
	put("reason", d.reason())
	put("route", r.route)
	put("mode", d.mode.String())
	if !d.identity.User.IsZero() {
		put("user_id", d.identity.User.String())
	}
	if !d.identity.Company.IsZero() {
		put("company_id", d.identity.Company.String())
	}
	attrs = append(attrs, slog.Float64("duration_ms", milliseconds(took)))
	if d.cause != nil {
		put("cause", d.cause.Error())
	}
	put("stack", string(d.stack))
	o.log.LogAttrs(ctx, level, "authorization check", attrs...)
}
