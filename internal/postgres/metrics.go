package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/atenex/gatehouse/internal/identity"
)

// query names a question or a change for metrics: a closed set.
type query string

const (
	queryPing            query = "ping"
	queryStanding        query = "standing"
	queryStandings       query = "standings"
	queryAccountByEmail  query = "account_by_email"
	queryAccountByID     query = "account_by_id"
	queryStartSession    query = "start_session"
	queryEndSessions     query = "end_sessions"
	queryRevokeUser      query = "revoke_user"
	querySweepSessions   query = "sweep_sessions"
	queryChangePassword  query = "change_password"
	queryProfile         query = "profile"
	queryReplaceHash     query = "replace_password_hash"
	queryJoin            query = "join"
	queryRefresh         query = "refresh"
	querySweepRefresh    query = "sweep_refresh"
	queryMakeOneTime     query = "make_one_time"
	queryOneTimeUser     query = "one_time_user"
	queryResetPassword   query = "reset_password"
	queryVerifyEmail     query = "verify_email"
	querySweepOneTime    query = "sweep_one_time"
	queryCreateUser      query = "create_user"
	queryMatchUsers      query = "match_users"
	queryImportUsers     query = "import_users"
	queryListUsers       query = "list_users"
	queryFindUser        query = "find_user"
	querySetActive       query = "set_active"
	querySetPassword     query = "set_password"
	queryCreateCompany   query = "create_company"
	queryListCompanies   query = "list_companies"
	queryListMembers     query = "list_members"
	querySetSuspended    query = "set_suspended"
	queryHighestCost     query = "highest_bcrypt_cost"
	queryCountHashes     query = "count_hashes"
	queryAudit           query = "audit"
	queryAuditLog        query = "audit_log"
	queryTendAudit       query = "tend_audit"
	queryCompanyByName   query = "company_by_name"
	queryRegisterUser    query = "register_user"
	queryRedeem          query = "redeem_invitation"
	queryReserveLogin    query = "reserve_login"
	querySettleLogin     query = "settle_login"
	querySpend           query = "spend"
	queryRefund          query = "refund"
	queryUnlockUser      query = "unlock_user"
	querySweepThrottle   query = "sweep_throttle"
	querySendFence       query = "send_fence"
	queryReplicas        query = "replicas"
	resultOK                   = "ok"
	resultError                = "error"
	metricsPrefix              = "gatehouse_database_"
	labelQuery                 = "query"
	labelResult                = "result"
	labelConnectionState       = "state"

	queryInvite           query = "invite"
	queryListInvitations  query = "list_invitations"
	queryRevokeInvitation query = "revoke_invitation"
	queryDecline          query = "decline_invitations"
	querySweepInvitations query = "sweep_invitations"
	queryRemoveMember     query = "remove_member"
	queryListSessions     query = "list_sessions"
	queryEndSession       query = "end_session"
)

func queries() []query {
	return []query{queryPing, queryCompanyByName, queryRegisterUser, queryRedeem, queryReserveLogin, querySettleLogin, querySpend, queryRefund, queryUnlockUser, querySweepThrottle,
		queryStanding, queryStandings, queryAccountByEmail, queryAccountByID, queryStartSession, queryEndSessions,
		queryRevokeUser, querySweepSessions, queryChangePassword, queryProfile, queryReplaceHash, queryJoin,
		queryRefresh, querySweepRefresh, queryMakeOneTime, queryOneTimeUser, queryResetPassword, queryVerifyEmail, querySweepOneTime,
		queryCreateUser, queryMatchUsers, queryImportUsers, queryListUsers, queryFindUser, querySetActive, querySetPassword, queryCreateCompany,
		queryListCompanies, queryListMembers, querySetSuspended, queryHighestCost, queryCountHashes, querySendFence, queryReplicas,
		queryAudit, queryAuditLog, queryTendAudit, queryInvite, queryListInvitations, queryRevokeInvitation, queryDecline,
		querySweepInvitations, queryRemoveMember, queryListSessions, queryEndSession}
}

type metrics struct {
	duration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    metricsPrefix + "query_duration_seconds",
		Help:    "Time of one question to the database, the wait for a connection included. An answer that refuses counts as ok.",
		Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},

		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{labelQuery, labelResult})}
	for _, q := range queries() {
		for _, r := range []string{resultOK, resultError} {
			m.duration.WithLabelValues(string(q), r)
		}
	}
	return m
}

func (m *metrics) observe(ctx context.Context, q query, took time.Duration, err error) {
	result := resultOK
	if err != nil && !answered(err) {
		result = resultError
	}
	h := m.duration.WithLabelValues(string(q), result)
	span := trace.SpanContextFromContext(ctx)
	if example, ok := h.(prometheus.ExemplarObserver); ok && span.IsSampled() {
		example.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": span.TraceID().String()})
		return
	}
	h.Observe(took.Seconds())
}

// refusal wraps what a transaction was given up for although the database did
// its part, so that a judge's own error does not count as the database's.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// answered tells an answer that happens to be an error from having none.
func answered(err error) bool {
	var refused refusal
	if errors.As(err, &refused) {
		return true
	}
	for _, known := range []error{
		pgx.ErrNoRows, identity.ErrNotFound, identity.ErrEmailTaken, identity.ErrUnknownCompany,
		identity.ErrJoinRefused, identity.ErrNoCompany, identity.ErrChanged, ErrBadCursor, ErrBadText, ErrBadCompanyName,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Collector gives the figures of the pool and of the queries, all of them under
// gatehouse_database_. One registry takes one Store's.
func (s *Store) Collector() prometheus.Collector {
	return &collector{
		store: s,
		connections: prometheus.NewDesc(metricsPrefix+"pool_connections",
			"Connections by state; max is the limit.", []string{labelConnectionState}, nil),
		acquires: prometheus.NewDesc(metricsPrefix+"pool_acquires_total",
			"Connections taken from the pool.", nil, nil),
		waits: prometheus.NewDesc(metricsPrefix+"pool_waits_total",
			"Acquires that found no idle connection and waited.", nil, nil),
		waited: prometheus.NewDesc(metricsPrefix+"pool_acquire_wait_seconds_total",
			"Time spent in acquires that had to wait.", nil, nil),
		cancelled: prometheus.NewDesc(metricsPrefix+"pool_acquires_cancelled_total",
			"Acquires given up because their request ended first.", nil, nil),
		opened: prometheus.NewDesc(metricsPrefix+"pool_connections_opened_total",
			"Connections opened, failed attempts included.", nil, nil),
	}
}

type collector struct {
	store                                                   *Store
	connections, acquires, waits, waited, cancelled, opened *prometheus.Desc
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.connections, c.acquires, c.waits, c.waited, c.cancelled, c.opened} {
		out <- d
	}
	c.store.metrics.duration.Describe(out)
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.store.pool.Stat()
	gauge := func(v int32, state string) {
		out <- prometheus.MustNewConstMetric(c.connections, prometheus.GaugeValue, float64(v), state)
	}
	gauge(s.IdleConns(), "idle")
	gauge(s.AcquiredConns(), "in_use")
	gauge(s.ConstructingConns(), "connecting")
	gauge(s.MaxConns(), "max")
	count := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	count(c.acquires, float64(s.AcquireCount()))
	count(c.waits, float64(s.EmptyAcquireCount()))
	count(c.waited, s.EmptyAcquireWaitTime().Seconds())
	count(c.cancelled, float64(s.CanceledAcquireCount()))
	count(c.opened, float64(s.NewConnsCount()))
	c.store.metrics.duration.Collect(out)
}
