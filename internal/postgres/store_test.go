package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

func withParameter(url, parameter string) string {
	if strings.Contains(url, "?") {
		return url + "&" + parameter
	}
	return url + "?" + parameter
}

func TestOpenNeverQuotesTheURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"",
		"postgres://gate:test-secret@localhost:notaport/db",
		"postgres://gate:test/secret#1@localhost:5432/db",
		"postgres://gate:test-secret%zz@localhost/db",
		"host=localhost password='test-secret",
		"postgres://gate:test-secret@localhost/db?sslmode=perhaps",
		"postgres://gate:test-secret@localhost/db?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
		"test-secret",
	} {
		_, err := postgres.Open(t.Context(), postgres.Options{URL: url})
		if err == nil {
			t.Errorf("%q was accepted", url)
			continue
		}
		for err := err; err != nil; err = errors.Unwrap(err) {
			if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "secret") {
				t.Errorf("%q: the error quotes it: %s", url, text)
			}
		}
	}
}

func TestAFailedConnectionNamesNoPassword(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close() // nobody listens there now
	store, err := postgres.Open(testContext(t), postgres.Options{URL: "postgres://gate:test-secret@" + address + "/db"})
	if err != nil {
		t.Fatalf("a database that is down at start is no error: %v", err)
	}
	defer store.Close()
	_, err = store.Standing(testContext(t), userID(1), identity.SessionID{})
	if err == nil || strings.Contains(err.Error(), "test-secret") || !strings.Contains(err.Error(), address) {
		t.Errorf("err = %v, want the address and not the password", err)
	}
	if _, err := postgres.Migrate(testContext(t), "postgres://gate:test-secret@"+address+"/db", postgres.MigrateOptions{}); err == nil ||
		strings.Contains(err.Error(), "test-secret") {
		t.Errorf("Migrate: %v", err)
	}
}

func TestOpenRefusesAPoolThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, o := range []postgres.Options{{MinConns: 5, MaxConns: 4}, {MinConns: -1}, {MaxConns: -1}, {MaxConns: 1 << 40}} {
		o.URL = "postgres://localhost/db"
		if store, err := postgres.Open(t.Context(), o); err == nil {
			store.Close()
			t.Errorf("%d to %d connections were accepted", o.MinConns, o.MaxConns)
		}
	}
}

// Postgres is restarted under a pool whose connections were used a moment ago:
// each is dead, and no request may pay for it.
func TestRequestsAfterARestartAllSucceed(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	url := server.New()
	db := connect(t, url)
	db.migrate()
	db.addUser(userID(1), "ada@example.com", companyID(1))
	store := db.open(postgres.Options{MaxConns: 4})
	all := func() (errs []error) {
		var mu sync.Mutex
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				_, err := store.Standing(testContext(t), userID(1), identity.SessionID{})
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
		wait.Wait()
		return errs
	}
	for _, stop := range []func(){server.Stop, server.Kill} {
		for _, err := range all() {
			if err != nil {
				t.Fatalf("before: %v", err)
			}
		}
		stop()
		if err := store.Ping(testContext(t)); err == nil {
			t.Fatal("a stopped server answers")
		}
		server.Start()
		for _, err := range all() {
			if err != nil {
				t.Errorf("after a restart: %v", err)
			}
		}
		if err := store.RecordLogin(testContext(t), userID(1)); err != nil {
			t.Errorf("a write after a restart: %v", err)
		}
	}
}

// A primary that was demoted must not be asked: it would not know of a session
// that has just been made, nor of one that has just been ended.
func TestAReplicaIsNotAsked(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	db := connect(t, server.New())
	db.migrate()
	store := db.open(postgres.Options{MaxConns: 2})
	if err := store.Ping(testContext(t)); err != nil {
		t.Fatal(err)
	}
	signal := filepath.Join(db.one(`SELECT current_setting('data_directory')`), "standby.signal")
	server.Stop()
	if err := os.WriteFile(signal, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	server.Start()
	if err := store.Ping(testContext(t)); err == nil || !strings.Contains(err.Error(), "replica") {
		t.Errorf("a replica was asked: %v", err)
	}
	server.Stop()
	if err := os.Remove(signal); err != nil {
		t.Fatal(err)
	}
	server.Start()
	if err := store.Ping(testContext(t)); err != nil {
		t.Errorf("the primary is back: %v", err)
	}
}

// What a proxy that pools transactions needs must be able to do everything.
func TestEveryExecModeServes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			db := newDatabase(t)
			db.url = withParameter(db.url, "default_query_exec_mode="+mode)
			db.migrate()
			ctx, store := testContext(t), db.open(postgres.Options{MaxConns: 2})
			company, err := store.CreateCompany(ctx, "Acme")
			if err != nil {
				t.Fatal(err)
			}
			made, err := store.CreateUser(ctx, account("ada@example.com", company.ID))
			if err != nil {
				t.Fatal(err)
			}
			db.invite(companyID(2), "email", "'ada@example.com'")
			joined, err := store.Join(ctx, identity.JoinRequest{User: made.ID, InvitationToken: invitationToken, Admit: admitAll})
			if err != nil || joined.User.Company != companyID(2) {
				t.Errorf("Join = %+v, %v", joined, err)
			}
			if ok, err := store.ReplacePasswordHash(ctx, made.ID, "an-old-hash", "a-new-hash"); !ok || err != nil {
				t.Errorf("ReplacePasswordHash = %v, %v", ok, err)
			}
			if changed, err := store.SetActive(ctx, made.ID, false); !changed || err != nil {
				t.Errorf("SetActive = %v, %v", changed, err)
			}
			if err := errors.Join(store.RecordLogin(ctx, made.ID), store.SetPassword(ctx, made.ID, "a-hash")); err != nil {
				t.Error(err)
			}
			if got, err := store.AccountByEmail(ctx, "ADA@example.com"); err != nil || got.PasswordHash != "a-hash" || got.Active {
				t.Errorf("AccountByEmail = %+v, %v", got, err)
			}
			db.addUser(userID(2), "bob@example.com", identity.CompanyID{})
			_, next, err := store.ListUsers(ctx, 1, "")
			if err != nil {
				t.Fatal(err)
			}
			if rest, _, err := store.ListUsers(ctx, 1, next); err != nil || len(rest) != 1 || rest[0].ID != userID(2) {
				t.Errorf("the second page = %+v, %v", rest, err)
			}
			if listed, err := store.ListCompanies(ctx); err != nil || len(listed) != 1 || listed[0].Users != 1 {
				t.Errorf("ListCompanies = %+v, %v", listed, err)
			}
		})
	}
}

// The connections are ended while they idle, which is what a fail-over, a
// firewall and an administrator do.
func TestEndedConnectionsCostNoRequest(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	store := db.open(postgres.Options{MaxConns: 4, AppName: "to be ended"})
	for name, work := range map[string]func(context.Context) error{
		"standing":     func(ctx context.Context) error { _, err := store.Standing(ctx, userID(1), sessionID(1)); return err },
		"record login": func(ctx context.Context) error { return store.RecordLogin(ctx, userID(1)) },
		"join": func(ctx context.Context) error {
			_, err := store.Join(ctx, identity.JoinRequest{User: userID(1), Admit: admitAll})
			return err
		},
		"ping": store.Ping,
	} {
		if err := work(testContext(t)); err != nil {
			t.Fatalf("%s before: %v", name, err)
		}
		db.exec(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'to be ended' AND datname = current_database()`)
		if err := work(testContext(t)); err != nil {
			t.Errorf("%s after: %v", name, err)
		}
	}
}

func TestAFrozenConnectionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	proxy := newProxy(t, db.url)
	store := db.open(postgres.Options{URL: proxy.url, MaxConns: 2})
	work := map[string]func(context.Context) error{
		"standing": func(ctx context.Context) error { _, err := store.Standing(ctx, userID(1), sessionID(1)); return err },
		"account":  func(ctx context.Context) error { _, err := store.AccountByEmail(ctx, "ada@example.com"); return err },
		"login":    func(ctx context.Context) error { return store.RecordLogin(ctx, userID(1)) },
		"join": func(ctx context.Context) error {
			_, err := store.Join(ctx, identity.JoinRequest{User: userID(1), Admit: admitAll})
			return err
		},
		"ping": store.Ping,
	}
	for name, ask := range work {
		if err := ask(testContext(t)); err != nil {
			t.Fatalf("%s before: %v", name, err)
		}
	}
	proxy.frozen.Store(true)
	for name, ask := range work {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- ask(ctx) }()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: answered over a frozen connection", name)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s goes on long after its context has ended", name)
		}
		cancel()
	}
	proxy.frozen.Store(false)
	eventually(t, "the store recovers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return store.Ping(ctx) == nil
	})
}

func TestAHeldRowIsWaitedForNoLongerThanTheContext(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	db.exec(`BEGIN`)
	db.exec(`SELECT FROM users FOR UPDATE`)
	for name, work := range map[string]func(context.Context) error{
		"login":    func(ctx context.Context) error { return store.RecordLogin(ctx, userID(1)) },
		"password": func(ctx context.Context) error { return store.SetPassword(ctx, userID(1), "a-hash") },
		"join": func(ctx context.Context) error {
			_, err := store.Join(ctx, identity.JoinRequest{User: userID(1), Admit: admitAll})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := work(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want the deadline", name, err)
		}
		cancel()
	}
	// Reading is never held up by it.
	if _, err := store.Standing(testContext(t), userID(1), sessionID(1)); err != nil {
		t.Error(err)
	}
	db.exec(`ROLLBACK`)
	if got := db.one(`SELECT concat(hashed_password, last_login) FROM users`); got != "" {
		t.Errorf("what was given up was written all the same: %s", got)
	}
}

func TestAFullPoolEndsWithTheContext(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	one := db.open(postgres.Options{MaxConns: 1})
	_, err := one.Join(testContext(t), identity.JoinRequest{User: userID(1), Admit: func(identity.Standing) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := one.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want the deadline", err)
		}
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
	if err := store.Ping(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestCollectorShowsEveryQueryBeforeItIsAsked(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	store := db.open(postgres.Options{MaxConns: 7})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(store.Collector())
	if n, err := testutil.GatherAndCount(registry, "gatehouse_database_query_duration_seconds"); err != nil || n != 28 {
		t.Errorf("%d series of query times (%v), want 28", n, err)
	}
	// A refusal is an answer; a missing table is not.
	if _, err := store.FindUser(testContext(t), "nobody@example.com"); !errors.Is(err, identity.ErrNotFound) {
		t.Fatal(err)
	}
	_, err := store.Join(testContext(t), identity.JoinRequest{User: userID(1), Admit: func(identity.Standing) error { return io.EOF }})
	if err != io.EOF { //nolint:errorlint // as it is
		t.Fatal(err)
	}
	db.exec(`DROP TABLE company_members`)
	if _, err := store.Standing(testContext(t), userID(1), sessionID(1)); err == nil {
		t.Fatal("a store without its tables answers")
	}
	got := gather(t, registry)
	for series, want := range map[string]float64{
		`gatehouse_database_query_duration_seconds{query="find_user",result="ok"}`:   1,
		`gatehouse_database_query_duration_seconds{query="join",result="ok"}`:        1,
		`gatehouse_database_query_duration_seconds{query="join",result="error"}`:     0,
		`gatehouse_database_query_duration_seconds{query="standing",result="error"}`: 1,
		`gatehouse_database_pool_connections{state="max"}`:                           7,
		`gatehouse_database_pool_connections{state="in_use"}`:                        0,
		`gatehouse_database_pool_connections{state="idle"}`:                          1,
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s = %v (%v), want %v", series, v, ok, want)
		}
	}
}

// gather maps series to their value; a histogram's is its count.
func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			series := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.GetHistogram() != nil:
				got[series] = float64(m.GetHistogram().GetSampleCount())
			case m.GetGauge() != nil:
				got[series] = m.GetGauge().GetValue()
			default:
				got[series] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Errorf("%s: not within 30 s", what)
}

// proxy stands before the server and can stop forwarding without closing, which
// is what a network that has lost a host looks like.
type proxy struct {
	url    string
	frozen atomic.Bool
}

func newProxy(t *testing.T, url string) *proxy {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
	p := &proxy{url: strings.Replace(url, server, listener.Addr().String(), 1)}
	if p.url == url {
		t.Fatalf("no %s in the URL", server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		conns.Wait()
	})
	pass := func(dst, src net.Conn) {
		defer dst.Close()
		defer src.Close()
		buffer := make([]byte, 4096)
		for {
			n, err := src.Read(buffer)
			for p.frozen.Load() && ctx.Err() == nil {
				time.Sleep(5 * time.Millisecond)
			}
			if _, werr := dst.Write(buffer[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	conns.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _ = client.Close(); _ = upstream.Close() })
			conns.Go(func() { pass(upstream, client) })
			conns.Go(func() { pass(client, upstream) })
		}
	})
	return p
}
