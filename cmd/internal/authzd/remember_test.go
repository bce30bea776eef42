package authzd

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/authz/activity"
	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// gate is what run joins, without the gRPC in front: the cache, the store behind
// it, and the listener that says what to forget.
type gate struct {
	t        *testing.T
	cache    *activity.Cache
	registry *prometheus.Registry
	log      *record
	admin    *pgx.Conn
}

// record is a log that several goroutines write.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), what)
}

func newGate(t *testing.T, url string) *gate {
	t.Helper()
	ctx := t.Context()
	if _, err := postgres.Migrate(ctx, url, postgres.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	settings, _, err := config.Load(config.Source{Dir: t.TempDir(), Environ: []string{
		"GATEWAY_DATABASE_URL=" + url, "GATEWAY_JWT_SECRET=" + strings.Repeat("test-secret-", 4),
	}}, config.NeedAuthz)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, registry: prometheus.NewRegistry(), log: &record{}}
	store, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	cache, stop, err := remember(ctx, &daemon.Process{
		Settings: settings, Metrics: g.registry, Log: slog.New(slog.NewTextHandler(g.log, nil)),
	}, store, activity.DefaultBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	g.cache = cache
	g.connect(url)
	g.until("changes are heard", g.live)
	return g
}

func (g *gate) connect(url string) {
	g.t.Helper()
	var err error
	if g.admin, err = pgx.Connect(g.t.Context(), url); err != nil {
		g.t.Fatal(err)
	}
	conn := g.admin
	g.t.Cleanup(func() { _ = conn.Close(context.Background()) })
}

func (g *gate) exec(sql string, args ...any) {
	g.t.Helper()
	if _, err := g.admin.Exec(g.t.Context(), sql, args...); err != nil {
		g.t.Fatalf("%s: %v", sql, err)
	}
}

func (g *gate) metric(name string) float64 {
	g.t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	g.t.Fatalf("no metric %s", name)
	return 0
}

func (g *gate) live() bool { return g.metric("gatehouse_authz_revocation_listener_live") == 1 }

func (g *gate) until(what string, holds func() bool) {
	g.t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-late:
			g.t.Fatalf("%s: not within 30 s", what)
		case <-again.C:
		}
	}
}

func (g *gate) ask(user identity.UserID) (identity.Standing, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Second)
	defer cancel()
	return g.cache.Standing(ctx, user, identity.SessionID{}, identity.CompanyID{})
}

func newUser(g *gate) identity.UserID {
	g.t.Helper()
	id := uuid.New()
	g.exec(`INSERT INTO users (id, email, is_active) VALUES ($1, $2, true)`, id.String(), id.String()+"@example.com")
	user := identity.UserID(id)
	g.until("the new user is known", func() bool { s, err := g.ask(user); return err == nil && s.Active })
	return user
}

func TestWhatIsRememberedIsForgottenAtTheCommit(t *testing.T) {
	t.Parallel()
	g := newGate(t, postgrestest.New(t))
	user := newUser(g)
	hits := g.metric("gatehouse_authz_cache_hits_total")
	g.until("memory answers", func() bool {
		_, err := g.ask(user)
		return err == nil && g.metric("gatehouse_authz_cache_hits_total") > hits
	})
	for n := range 10 {
		active := n%2 == 1
		g.exec(`UPDATE users SET is_active = $2 WHERE id = $1`, user.String(), active)
		g.until("the change counts", func() bool { s, err := g.ask(user); return err == nil && s.Active == active })
	}
}

func TestMemoryIsNotUsedWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	url := server.New()
	g := newGate(t, url)
	user := newUser(g)
	server.Kill()
	g.until("the loss is noticed", func() bool { return !g.live() })
	for range 3 {
		if s, err := g.ask(user); err == nil {
			t.Fatalf("answered %+v though the database is away", s)
		}
	}
	if n := g.log.count("revocations are not heard"); n < 1 || n > 3 {
		t.Errorf("the loss was logged %d times", n)
	}
	server.Start()
	g.connect(url)
	// Before it is heard again, the store alone answers.
	g.exec(`UPDATE users SET is_active = false WHERE id = $1`, user.String())
	if s, err := g.ask(user); err != nil || s.Active {
		t.Errorf("after the restart: %+v, %v; want the change", s, err)
	}
	g.until("changes are heard again", g.live)
	if s, err := g.ask(user); err != nil || s.Active {
		t.Errorf("heard again: %+v, %v; want the change", s, err)
	}
	if n := g.log.count("revocations are heard"); n != 2 {
		t.Errorf("that changes are heard was logged %d times, want 2", n)
	}
}
