package postgres_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

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
				_, err := store.Standing(testContext(t), userID(1), identity.SessionID{}, identity.CompanyID{})
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
		if _, err := store.RevokeUser(testContext(t), userID(1)); err != nil {
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

// The connections are ended while they idle, which is what a fail-over, a
// firewall and an administrator do.
func TestEndedConnectionsCostNoRequest(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	store := db.open(postgres.Options{MaxConns: 4, AppName: "to be ended"})
	for name, work := range map[string]func(context.Context) error{
		"standing": func(ctx context.Context) error {
			_, err := store.Standing(ctx, userID(1), sessionID(1), identity.CompanyID{})
			return err
		},
		"login": func(ctx context.Context) error { return logIn(ctx, store, userID(1)) },
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
		"standing": func(ctx context.Context) error {
			_, err := store.Standing(ctx, userID(1), sessionID(1), identity.CompanyID{})
			return err
		},
		"account": func(ctx context.Context) error { _, err := store.AccountByEmail(ctx, "ada@example.com"); return err },
		"login":   func(ctx context.Context) error { return logIn(ctx, store, userID(1)) },
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
	proxy.freeze()
	for name, ask := range work {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- ask(ctx) }()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: answered over a frozen connection", name)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s goes on long after its context has ended", name)
		}
		cancel()
	}
	proxy.thaw()
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
		"login": func(ctx context.Context) error { return logIn(ctx, store, userID(1)) },
		"password": func(ctx context.Context) error {
			_, err := store.SetPassword(ctx, userID(1), "another-hash")
			return err
		},
		"logout": func(ctx context.Context) error {
			_, err := store.EndSessions(ctx, identity.LogoutRequest{User: userID(1), Scope: identity.LogoutGlobal, Admit: admitAll})
			return err
		},
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
	if _, err := store.Standing(testContext(t), userID(1), sessionID(1), identity.CompanyID{}); err != nil {
		t.Error(err)
	}
	db.exec(`ROLLBACK`)
	if got := db.one(`SELECT concat(hashed_password, last_login, tokens_valid_after, (SELECT count(*) FROM sessions)) FROM users`); got != aHash+"0" {
		t.Errorf("what was given up was written all the same: %s", got)
	}
}

// One user's row that somebody keeps locked is that user's trouble alone.
func TestAHeldRowDoesNotHoldThePool(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	db.addUser(userID(2), "bob@example.com", companyID(1))
	store := db.open(postgres.Options{MaxConns: 2})
	db.exec(`BEGIN`)
	db.exec(`SELECT FROM users WHERE id = $1 FOR UPDATE`, userID(1).String())
	var held sync.WaitGroup
	for name, work := range map[string]func(context.Context) error{
		"login":      func(ctx context.Context) error { return logIn(ctx, store, userID(1)) },
		"once again": func(ctx context.Context) error { return logIn(ctx, store, userID(1)) },
		"hash": func(ctx context.Context) error {
			_, err := store.ReplacePasswordHash(ctx, userID(1), aHash, "another-hash")
			return err
		},
		"disable": func(ctx context.Context) error { _, err := store.SetActive(ctx, userID(1), false); return err },
		"join": func(ctx context.Context) error {
			_, err := store.Join(ctx, identity.JoinRequest{User: userID(1), Admit: admitAll})
			return err
		},
		"logout": func(ctx context.Context) error {
			_, err := store.EndSessions(ctx, identity.LogoutRequest{User: userID(1), Scope: identity.LogoutGlobal, Admit: admitAll})
			return err
		},
	} {
		held.Go(func() {
			if err := work(testContext(t)); err == nil || !strings.Contains(err.Error(), "another transaction holds a row") {
				t.Errorf("%s: %v, want it given up", name, err)
			}
		})
	}
	if err := logIn(testContext(t), store, userID(2)); err != nil {
		t.Errorf("somebody else's login: %v", err)
	}
	held.Wait()
	if _, err := store.Standing(testContext(t), userID(1), sessionID(1), identity.CompanyID{}); err != nil {
		t.Error(err)
	}
	db.exec(`ROLLBACK`)
	if err := logIn(testContext(t), store, userID(1)); err != nil {
		t.Errorf("afterwards: %v", err)
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

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	late := time.After(2 * time.Minute)
	for !holds() {
		select {
		case <-late:
			t.Errorf("%s: not within 2 min", what)
			return
		case <-again.C:
		}
	}
}

// proxy stands before the server and can stop forwarding without closing, which
// is what a network that has lost a host looks like.
type proxy struct {
	url    string
	gate   sync.RWMutex // held by the one who freezes
	frozen bool
}

func (p *proxy) freeze() {
	p.gate.Lock()
	p.frozen = true
}

func (p *proxy) thaw() {
	if p.frozen {
		p.frozen = false
		p.gate.Unlock()
	}
}

func newProxy(t *testing.T, url string) *proxy {
	t.Helper()
	url = strings.TrimSuffix(url, patient)
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
		p.thaw()
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
			p.gate.RLock()
			_, werr := dst.Write(buffer[:n])
			p.gate.RUnlock()
			if err != nil || werr != nil {
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
