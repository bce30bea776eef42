package login

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/trace"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

type metrics struct {
	attempts *prometheus.CounterVec
	joins    *prometheus.CounterVec
	blocks   *prometheus.CounterVec

	registrations *prometheus.CounterVec
	concealed     prometheus.Counter
	welcomes      *prometheus.CounterVec
	ended         *prometheus.CounterVec
	refreshes     *prometheus.CounterVec
	mails         *prometheus.CounterVec
	// legacy has no series before the hashes were counted: zero is good news.
	legacy   *prometheus.GaugeVec
	requests *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	with := promauto.With(r)
	m := &metrics{
		attempts: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_login_attempts_total", Help: "Attempts to log in, by how they ended.",
		}, []string{"result"}),
		joins: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_company_joins_total", Help: "Requests to be put in a company, by how they ended.",
		}, []string{"result"}),
		registrations: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_registrations_total", Help: "Requests to register, by how they were answered.",
		}, []string{"result"}),
		concealed: with.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_registrations_concealed_total", Help: "Requests to register that were answered well although the address was taken.",
		}),
		welcomes: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_registration_faults_total", Help: "Users that were made but miss something, by what: the mail or the profile.",
		}, []string{"step"}),
		blocks: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_login_throttle_blocks_total", Help: "Requests refused because there were too many, by the limit that they ran into.",
		}, []string{"scope"}),
		refreshes: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_refreshes_total", Help: "Refresh tokens presented, by how that ended.",
		}, []string{"result"}),
		mails: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_mails_total", Help: "Mails that were asked for, by what they are about and how that ended.",
		}, []string{"purpose", "result"}),
		ended: with.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_sessions_ended_total", Help: "Sessions that their users ended before their time, by why.",
		}, []string{"reason"}),
		legacy: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_login_legacy_hashes", Help: "Users whose password hash is of another scheme than new ones.",
		}, nil),
		requests: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_login_request_duration_seconds", Help: "Time to answer a request, the floor under refusals included.",
			Buckets:                         []float64{.005, .01, .025, .05, .1, .2, .3, .4, .5, .75, 1, 1.5, 2.5, 5, 10},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"route", "status"}),
	}
	for _, result := range []string{"success", "bad_credentials", "throttled", "overloaded", "invalid", "error"} {
		m.attempts.WithLabelValues(result)
	}
	for _, result := range []string{"joined", "confirmed", "no_company", "join_refused", "unknown_company", "unauthenticated", "invalid", "error"} {
		m.joins.WithLabelValues(result)
	}
	for _, result := range []string{"registered", "email_taken", "join_refused", "registration_off", "throttled", "invalid", "error"} {
		m.registrations.WithLabelValues(result)
	}
	for _, step := range []string{stepMail, stepProfile} {
		m.welcomes.WithLabelValues(step)
	}
	for _, scope := range identity.ThrottleScopes() {
		m.blocks.WithLabelValues(string(scope))
	}
	for _, result := range []string{"refreshed", "bad_refresh_token", "not_found", "invalid", "error"} {
		m.refreshes.WithLabelValues(result)
	}
	for _, purpose := range []identity.OneTimePurpose{identity.ResetPurpose, identity.VerifyPurpose} {
		for _, result := range mailResults() {
			m.mails.WithLabelValues(string(purpose), result)
		}
	}
	for _, reason := range []string{endedLogout, endedLogoutAll, endedPasswordChange, endedPasswordReset, endedRefreshReuse} {
		m.ended.WithLabelValues(reason)
	}
	return m
}

// waiting shows how many mails are not done with.
func (m *metrics) waiting(r prometheus.Registerer, count func() float64) {
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_mails_waiting", Help: "Mails that are to be sent, or to be tried once more.",
	}, count)
}

// expect starts the figures of a route at zero, so that its first failure is an
// increase and not a series that was never there.
func (m *metrics) expect(route string) {
	for _, status := range []string{"2xx", "4xx", "5xx"} {
		m.requests.WithLabelValues(route, status)
	}
}

// answered counts a request, with the trace that it is in as an example.
func (m *metrics) answered(ctx context.Context, route string, status int, took time.Duration) {
	h := m.requests.WithLabelValues(route, strconv.Itoa(status/100)+"xx")
	span := trace.SpanContextFromContext(ctx)
	if example, ok := h.(prometheus.ExemplarObserver); ok && span.IsSampled() {
		example.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": span.TraceID().String()})
		return
	}
	h.Observe(took.Seconds())
}

// Why a session was ended here, as the sessions table says it.
const (
	endedLogout         = "logout"
	endedLogoutAll      = "logout_all"
	endedPasswordChange = "password_change"
	endedPasswordReset  = "password_reset"
	endedRefreshReuse   = "refresh_reuse"
)

// attempt counts a login. One whose client hung up before it was judged ended in
// no way at all and is not counted.
func (m *metrics) attempt(a answer, err error) {
	result := a.result
	if err != nil {
		switch p := refusal(err); {
		case p == errGone:
			return
		case p == errBadCredentials, p.Reason == errOverloaded.Reason, p.Reason == errThrottled.Reason:
			result = p.Reason
		default:
			result = blame(p)
		}
	}
	m.attempts.WithLabelValues(result).Inc()
}

// refreshed counts a refresh token that was presented.
func (m *metrics) refreshed(a answer, err error) {
	result := a.result
	if err != nil {
		switch p := refusal(err); {
		case p == errGone:
			return
		case p == errRefresh, p == errNotFound:
			result = p.Reason
		default:
			result = blame(p)
		}
	}
	m.refreshes.WithLabelValues(result).Inc()
}

// join counts a request to be put in a company.
func (m *metrics) join(a answer, err error) {
	result := a.result
	if err != nil {
		switch p := refusal(err); {
		case p == errGone:
			return
		case p == errNoCompany, p == errJoinRefused, p == errUnknownCompany:
			result = p.Reason
		case p.Status == http.StatusUnauthorized:
			result = "unauthenticated"
		default:
			result = blame(p)
		}
	}
	m.joins.WithLabelValues(result).Inc()
}

// registration counts a request to register.
func (m *metrics) registration(a answer, err error) {
	result := a.result
	if err != nil {
		switch p := refusal(err); {
		case p == errGone:
			return
		case p == errEmailTaken, p == errJoinRefused, p == errRegistrationOff, p.Reason == errThrottled.Reason:
			result = p.Reason
		case p.Reason == errNoDefaultCompany.Reason:
			result = "error"
		default:
			result = blame(p)
		}
	}
	m.registrations.WithLabelValues(result).Inc()
}

// blame tells what the client got wrong from what we did.
func blame(p *problem.Problem) string {
	if p.IsFault() {
		return "error"
	}
	return "invalid"
}

// observe writes the one line of the log that every request gets. Neither the
// address that somebody tried to log in with is in it (people type passwords
// there) nor anything else of a body or a token.
func (s *Service) observe(ctx context.Context, x *exchange, at route, a answer, took time.Duration) {
	s.metrics.answered(ctx, at.name, a.status, took)
	level := slog.LevelInfo
	switch {
	case a.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case at.quiet && a.status < http.StatusBadRequest:
		level = slog.LevelDebug
	}
	if !s.with.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", x.requestID),
		slog.String("method", methodName(x.r.Method)),
		slog.String("route", at.name),
		slog.Int("status", a.status),
		slog.String("result", a.result),
		slog.String("client", clientName(x.source)),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
	}
	if !x.user.IsZero() {
		attrs = append(attrs, slog.String("user_id", x.user.String()))
	}
	if !x.company.IsZero() {
		attrs = append(attrs, slog.String("company_id", x.company.String()))
	}
	if a.cause != nil {
		attrs = append(attrs, slog.String("error", a.cause.Error()))
	}
	s.with.Logger.LogAttrs(ctx, level, "request", attrs...)
}

// clientName is empty where the peer has no address, as on a Unix socket.
func clientName(at netip.Addr) string {
	if !at.IsValid() {
		return ""
	}
	return at.String()
}

// requestID is Envoy's, or one of our own. It is foreign text: cut, and without
// what is not printable ASCII.
func requestID(r *http.Request) string {
	const limit = 64
	id := strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return -1
		}
		return c
	}, r.Header.Get("X-Request-ID"))
	if id == "" {
		return rand.Text()
	}
	return id[:min(len(id), limit)]
}

// methodName keeps foreign text out of the log.
func methodName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "other"
}
