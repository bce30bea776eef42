package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/postgres"
)

// replica is a listener that confirms what it has heard.
func replica(t *testing.T, url, name string, log *slog.Logger) (e *ear, stop func()) {
	t.Helper()
	e = &ear{}
	l, err := postgres.NewListener(postgres.ListenerOptions{URL: url, AppName: "the listener", Sink: e, Replica: name, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("the listener goes on after its context has ended")
		}
	}
	t.Cleanup(stop)
	return e, stop
}

func (d *database) eventuallyReplicas(want string) {
	d.t.Helper()
	got := ""
	eventually(d.t, "replicas", func() bool {
		got = d.one(`SELECT string_agg(name, ' ' ORDER BY name) FROM gatehouse_replicas`)
		return got == want
	})
	if got != want {
		d.t.Fatalf("replicas are %q, want %q", got, want)
	}
}

func names(list []postgres.Replica) string {
	var out []string
	for _, r := range list {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

func TestAChangeIsConfirmedWhenEveryReplicaHasTakenIt(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	const users = 4
	for n := range users {
		db.addUser(userID(n), fmt.Sprint(n), companyID(1))
	}
	none, err := store.Confirm(testContext(t), time.Minute)
	if err != nil || len(none.Confirmed)+len(none.Waiting)+len(none.Gone) != 0 {
		t.Errorf("without a replica: %+v, %v", none, err)
	}
	ears := map[string]*ear{}
	for _, name := range []string{"one:1", "two:2", "three:3"} {
		ears[name], _ = replica(t, db.url, name, nil)
	}
	listen(t, db.url) // one that has nothing to confirm
	db.eventuallyReplicas("one:1 three:3 two:2")

	// Many commands at once: each is confirmed for what it changed itself.
	var all sync.WaitGroup
	for n := range users {
		all.Go(func() {
			for round := range 10 {
				id := userID(n)
				told := map[string]int{}
				for name, e := range ears {
					told[name] = e.times("u:" + id.String())
				}
				if _, err := store.SetActive(testContext(t), id, round%2 == 1); err != nil {
					t.Error(err)
				}
				got, err := store.Confirm(testContext(t), time.Minute)
				if err != nil || names(got.Confirmed) != "one:1 three:3 two:2" || len(got.Waiting)+len(got.Gone) != 0 {
					t.Errorf("confirmation = %+v, %v", got, err)
				}
				for name, e := range ears {
					if e.times("u:"+id.String()) <= told[name] {
						t.Errorf("%s has confirmed what it was not told", name)
					}
				}
			}
		})
	}
	all.Wait()

	// Numbers that were set back, as by an old backup, confirm nothing by themselves.
	db.exec(`TRUNCATE gatehouse_fence`)
	if got, err := store.Confirm(testContext(t), time.Minute); err != nil || len(got.Confirmed) != 3 {
		t.Errorf("after TRUNCATE: %+v, %v", got, err)
	}
	db.exec(`UPDATE gatehouse_fence SET number = number + 1000000000000`)
	before := db.one(`SELECT number FROM gatehouse_fence`)
	if got, err := store.Confirm(testContext(t), time.Minute); err != nil || len(got.Confirmed) != 3 {
		t.Errorf("after the clock was set back: %+v, %v", got, err)
	}
	if db.one(`SELECT number > $1::bigint FROM gatehouse_fence`, before) != "true" {
		t.Error("a fence has no higher number than the one before")
	}
}

// times is how often something was told.
func (e *ear) times(what string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, told := range e.told {
		if told == what {
			n++
		}
	}
	return n
}

func TestAReplicaThatIsSilentIsNamedAndThenCountsNoMore(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	proxy := newProxy(t, db.url)
	_, _ = replica(t, db.url, "well:1", nil)
	e, _ := replica(t, proxy.url, "frozen:2", nil)
	db.eventuallyReplicas("frozen:2 well:1")
	proxy.freeze()
	if _, err := store.RevokeUser(testContext(t), userID(1)); err != nil {
		t.Fatal(err)
	}
	// Time for the one to confirm, and not enough to give up the other.
	got, err := store.Confirm(testContext(t), time.Second)
	if err != nil || names(got.Confirmed) != "well:1" || names(got.Waiting) != "frozen:2" || got.Waiting[0].ProofOfLife != time.Second {
		t.Errorf("confirmation = %+v, %v", got, err)
	}
	// After its proof of life it remembers nothing, and nobody has to wait for it.
	got, err = store.Confirm(testContext(t), time.Minute)
	if err != nil || names(got.Confirmed) != "well:1" || names(got.Gone) != "frozen:2" || len(got.Waiting) != 0 {
		t.Errorf("confirmation = %+v, %v", got, err)
	}
	e.mu.Lock()
	if !e.proof.IsZero() {
		t.Error("it still has a proof of life")
	}
	e.mu.Unlock()
	proxy.thaw()
	eventually(t, "it is back", func() bool {
		got, err = store.Confirm(testContext(t), time.Minute)
		return err == nil && names(got.Confirmed) == "frozen:2 well:1"
	})
}

func TestRowsOfReplicasGo(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.exec(`INSERT INTO gatehouse_replicas (id, name, started_at, heartbeat_at, proof_ms, applied) VALUES
		(gen_random_uuid(), 'killed', now(), now() - interval '2 min', 1000, 1),
		(gen_random_uuid(), 'of a clock that was ahead', now(), now() + interval '2 min', 1000, 1),
		(gen_random_uuid(), 'patient', now(), now() - interval '2 min', 600000, 1),
		(gen_random_uuid(), 'living', now(), now(), 1000, 1)`)
	_, stop := replica(t, db.url, "fresh:1", nil)
	db.eventuallyReplicas("fresh:1 living patient")
	stop()
	db.eventuallyReplicas("living patient")
}

// What is not announced cannot be heard: a replica finds out before it confirms.
func TestAReplicaConfirmsNothingThatWasNotAnnounced(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	e, _ := replica(t, db.url, "deaf:1", nil)
	db.eventuallyReplicas("deaf:1")
	e.heard()

	// Off for a moment: it forgets everything before it confirms.
	db.exec(`BEGIN; ALTER TABLE users DISABLE TRIGGER gatehouse_users_changed; UPDATE users SET is_active = false;
		ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_changed; COMMIT`)
	got, err := store.Confirm(testContext(t), time.Minute)
	if err != nil || names(got.Confirmed) != "deaf:1" || e.heard() != "flush" {
		t.Errorf("confirmation = %+v, %v, without a flush", got, err)
	}

	// Off for good: it remembers nothing from then on.
	db.exec(`ALTER TABLE users DISABLE TRIGGER gatehouse_users_changed; UPDATE users SET is_active = true`)
	got, err = store.Confirm(testContext(t), time.Minute)
	if err != nil || len(got.Confirmed)+len(got.Waiting) != 0 || e.alive() {
		t.Errorf("confirmation = %+v, %v", got, err)
	}
	db.migrate()
	db.eventuallyReplicas("deaf:1")
}

// writer is a log that several goroutines write.
type writer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *writer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func TestAReplicaThatMayNotReportListensAllTheSame(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	role := "listener_" + strings.ReplaceAll(db.one(`SELECT gen_random_uuid()`), "-", "")
	db.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'test-secret-of-the-listener'`)
	t.Cleanup(func() { // a role outlives the test's database otherwise
		_, _ = db.conn.Exec(context.Background(), `DROP OWNED BY `+role)
		_, _ = db.conn.Exec(context.Background(), `DROP ROLE `+role)
	})
	cfg, err := pgx.ParseConfig(db.url)
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("host=%s port=%d user=%s password=test-secret-of-the-listener dbname=%s sslmode=disable", cfg.Host, cfg.Port, role, cfg.Database)
	log := &writer{}
	e, stop := replica(t, url, "clerk:1", slog.New(slog.NewTextHandler(log, nil)))
	eventually(t, "the warning", func() bool { return strings.Contains(log.String(), "permission denied") })
	e.settle(t)
	e.heard()
	if _, err := store.RevokeUser(testContext(t), userID(1)); err != nil {
		t.Fatal(err)
	}
	e.sync(t, db)
	if got := e.heard(); got != "u:"+userID(1).String() {
		t.Errorf("heard %q", got)
	}
	if got, err := store.Confirm(testContext(t), time.Minute); err != nil || len(got.Confirmed)+len(got.Waiting) != 0 {
		t.Errorf("confirmation = %+v, %v", got, err)
	}
	stop()
	if strings.Count(log.String(), "WARN") != 1 || strings.Contains(log.String(), "test-secret") || e.reasons() != "" {
		t.Errorf("log: %s; lost: %s", log, e.reasons())
	}

	// Before the migration, and while somebody holds the tables.
	db.exec(`ALTER TABLE gatehouse_fence RENAME TO elsewhere`)
	early, _ := replica(t, db.url, "early:1", nil)
	early.settle(t)
	db.exec(`ALTER TABLE elsewhere RENAME TO gatehouse_fence`)
	db.exec(`BEGIN; LOCK TABLE gatehouse_replicas, gatehouse_fence`)
	locked, _ := replica(t, db.url, "locked:1", nil)
	other := connect(t, db.url)
	for range 3 {
		locked.settle(t)
		locked.sync(t, other)
	}
	if got := early.reasons() + locked.reasons(); got != "" {
		t.Errorf("lost: %s", got)
	}
	db.exec(`ROLLBACK`)
}
