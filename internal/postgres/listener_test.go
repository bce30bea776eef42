package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// ear is a sink that keeps what it was told.
type ear struct {
	mu    sync.Mutex
	told  []string
	proof time.Time // of the last Alive; zero: lost
	lost  []string
}

func (e *ear) tell(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, what)
}

func (e *ear) User(id identity.UserID)       { e.tell("u:" + id.String()) }
func (e *ear) Session(id identity.SessionID) { e.tell("s:" + id.String()) }
func (e *ear) Company(id identity.CompanyID) { e.tell("c:" + id.String()) }
func (e *ear) Flush()                        { e.tell("flush") }

func (e *ear) Alive(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proof = at
}

func (e *ear) Lost(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proof = time.Time{}
	e.lost = append(e.lost, reason)
}

func (e *ear) provedAfter(at time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.proof.After(at)
}

func (e *ear) alive() bool { return e.provedAfter(time.Time{}) }

// heard is what was told since the last call, each once, the flush of a new
// connection left out.
func (e *ear) heard() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	seen := map[string]bool{}
	for _, what := range e.told {
		if !seen[what] {
			seen[what] = true
			out = append(out, what)
		}
	}
	e.told = nil
	return strings.Join(out, " ")
}

func (e *ear) reasons() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.lost, "; ")
}

// listen starts a listener that ends with the test.
func listen(t *testing.T, url string) *ear {
	t.Helper()
	e := &ear{}
	l, err := postgres.NewListener(postgres.ListenerOptions{URL: url, AppName: "the listener", Sink: e})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("the listener goes on after its context has ended")
		}
	})
	return e
}

// settle waits for a proof of life that was sent after now: by then every change
// that was committed has been told.
func (e *ear) settle(t *testing.T) {
	t.Helper()
	now := time.Now()
	eventually(t, "a proof of life", func() bool { return e.provedAfter(now) })
}

// sync waits until a notice sent now is told: notices come in the order of the
// commits, so every earlier one has been told then.
func (e *ear) sync(t *testing.T, db *database) {
	t.Helper()
	mark := "u:" + db.one(`SELECT gen_random_uuid()`)
	db.exec(`SELECT pg_notify('gatehouse', $1)`, mark)
	eventually(t, "a notice", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		at := slices.Index(e.told, mark)
		if at >= 0 {
			e.told = slices.Delete(e.told, at, at+1)
		}
		return at >= 0
	})
}

// M11: a restore skips ordinary triggers, TRUNCATE those of rows; a login says nothing.
func TestEveryChangeThatADecisionRestsOnIsAnnouncedWhateverTheSQL(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	db.exec(strings.Replace(legacyUsers, "role text", "role varchar(20)", 1)) // adopted
	db.migrate()
	e := listen(t, db.url)
	e.settle(t)
	const (
		u1, u2, u9 = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000009"
		c1, c2, c9 = "cccccccc-0000-4000-8000-000000000001", "cccccccc-0000-4000-8000-000000000002", "cccccccc-0000-4000-8000-000000000009"
		s1, s2, s9 = "55555555-0000-4000-8000-000000000001", "55555555-0000-4000-8000-000000000002", "55555555-0000-4000-8000-000000000009"
	)
	const replica = `SET LOCAL session_replication_role = replica; `
	for _, c := range []struct {
		name string
		sql  string // one transaction
		want string
	}{
		{"a user is disabled", `UPDATE users SET is_active = false WHERE id = '` + u1 + `'`, "u:" + u1},
		{"a user is disabled as a restore does it", replica + `UPDATE users SET is_active = false WHERE id = '` + u1 + `'`, "u:" + u1},
		{"all users are", `UPDATE users SET is_active = NULL`, "u:" + u1 + " u:" + u2},
		{"a user moves, and loses a membership", `UPDATE users SET company_id = '` + c2 + `' WHERE id = '` + u1 + `'`, "u:" + u1},
		{"a role changes", `UPDATE users SET role = 'admin' WHERE id = '` + u1 + `'`, "u:" + u1},
		{"an address changes its case", `UPDATE users SET email = 'ADA@example.com' WHERE id = '` + u1 + `'`, "u:" + u1},
		{"tokens are revoked", `UPDATE users SET tokens_valid_after = now() WHERE id = '` + u1 + `'`, "u:" + u1},
		{"sessions and memberships are deleted", `DELETE FROM sessions; DELETE FROM company_members`, "s:" + s1 + " s:" + s2 + " u:" + u1},
		{"a user gets another id", replica + `UPDATE users SET id = '` + u9 + `' WHERE id = '` + u1 + `'`, "u:" + u1 + " u:" + u9},
		{"a user is deleted, with what hangs on it", `DELETE FROM users WHERE id = '` + u1 + `'`, "u:" + u1 + " s:" + s1},
		{"a user is deleted as a restore does it", replica + `DELETE FROM users WHERE id = '` + u1 + `'`, "u:" + u1},
		{"a user comes", `INSERT INTO users (id) VALUES ('` + u9 + `')`, "u:" + u9},
		{"a user comes by upsert", `INSERT INTO users (id) VALUES ('` + u1 + `') ON CONFLICT (id) DO UPDATE SET is_active = false`, "u:" + u1},
		{"users are truncated, with what hangs on them", `TRUNCATE users CASCADE`, "flush"},
		{"users are truncated as a restore does it", replica + `TRUNCATE users CASCADE`, "flush"},
		{"a login says nothing", `UPDATE users SET last_login = now(), updated_at = now(), hashed_password = 'x', full_name = 'Ada' WHERE id = '` + u1 + `'`, ""},
		{"a user that stays as it is says nothing", `UPDATE users SET is_active = is_active, role = role, email = email`, ""},
		{"what is rolled back says nothing", `UPDATE users SET is_active = false; ROLLBACK; BEGIN`, ""},

		{"a membership comes", `INSERT INTO company_members (user_id, company_id) VALUES ('` + u2 + `', '` + c1 + `')`, "u:" + u2},
		{"a membership goes", `DELETE FROM company_members WHERE user_id = '` + u1 + `'`, "u:" + u1},
		{"a membership's role changes", `UPDATE company_members SET role = 'admin'`, "u:" + u1},
		{"a membership's role changes as a restore does it", replica + `UPDATE company_members SET role = 'admin'`, "u:" + u1},
		{"a membership passes to another user", `UPDATE company_members SET user_id = '` + u2 + `'`, "u:" + u1 + " u:" + u2},
		{"a membership's date says nothing", `UPDATE company_members SET created_at = now(), created_by = user_id`, ""},
		{"memberships are truncated", `TRUNCATE company_members`, "flush"},

		{"a session ends", `UPDATE sessions SET ended_at = now() WHERE id = '` + s1 + `'`, "s:" + s1},
		{"a session ends as a restore does it", replica + `UPDATE sessions SET ended_at = now() WHERE id = '` + s1 + `'`, "s:" + s1},
		{"a session is made valid from now", `UPDATE sessions SET valid_from = now() WHERE id = '` + s1 + `'`, "s:" + s1},
		{"a session is shortened", `UPDATE sessions SET not_after = now() WHERE id = '` + s1 + `'`, "s:" + s1},
		{"a session passes to another user", `UPDATE sessions SET user_id = '` + u2 + `' WHERE id = '` + s1 + `'`, "s:" + s1},
		{"a session gets another id", `UPDATE sessions SET id = '` + s9 + `' WHERE id = '` + s1 + `'`, "s:" + s1 + " s:" + s9},
		{"a session is deleted", `DELETE FROM sessions WHERE id = '` + s2 + `'`, "s:" + s2},
		{"sessions are truncated", `TRUNCATE sessions`, "flush"},
		{"a session that is used says nothing", `UPDATE sessions SET last_seen_at = now(), ip = '192.0.2.1', user_agent = 'x', company_id = NULL`, ""},
		{"a new session says nothing", `INSERT INTO sessions (id, user_id, auth_time, not_after) VALUES ('` + s9 + `', '` + u1 + `', now(), now())`, ""},

		{"a company is suspended", `UPDATE companies SET is_active = false WHERE id = '` + c1 + `'`, "c:" + c1},
		{"a company is suspended as a restore does it", replica + `UPDATE companies SET is_active = false WHERE id = '` + c1 + `'`, "c:" + c1},
		{"a company gets another id", `UPDATE companies SET id = '` + c9 + `' WHERE id = '` + c1 + `'`, "c:" + c1 + " c:" + c9},
		{"a company comes", `INSERT INTO companies (id, name, is_active) VALUES ('` + c9 + `', 'Nine', false)`, "c:" + c9},
		{"a company goes", `DELETE FROM companies WHERE id = '` + c1 + `'`, "c:" + c1},
		{"companies are truncated", `TRUNCATE companies`, "flush"},
		{"a company's name says nothing", `UPDATE companies SET name = name || '!'`, ""},

		{"what nobody understands is everything", `SELECT pg_notify('gatehouse', 'x:' || gen_random_uuid())`, "flush"},
		{"an id that is none is everything", `SELECT pg_notify('gatehouse', 'u:1')`, "flush"},
		{"nothing is everything", `NOTIFY gatehouse`, "flush"},
		{"another channel is nobody's business", `NOTIFY gatehouse_other, 'flush'`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`TRUNCATE users, companies, company_members, sessions CASCADE`)
			db.exec(`INSERT INTO companies (id, name) VALUES ('` + c1 + `', 'One'), ('` + c2 + `', 'Two')`)
			db.exec(`INSERT INTO users (id, email, role, is_active, company_id) VALUES
				('` + u1 + `', 'ada@example.com', 'user', true, '` + c1 + `'), ('` + u2 + `', 'bob@example.com', 'user', true, NULL)`)
			db.exec(`INSERT INTO company_members (user_id, company_id) VALUES ('` + u1 + `', '` + c1 + `')`)
			db.exec(`INSERT INTO sessions (id, user_id, auth_time, not_after) VALUES
				('` + s1 + `', '` + u1 + `', now(), now()), ('` + s2 + `', '` + u2 + `', now(), now())`)
			e.sync(t, db)
			e.heard()
			db.exec(`BEGIN; ` + c.sql + `; COMMIT`)
			e.sync(t, db)
			if got := e.heard(); got != c.want {
				t.Errorf("heard %q, want %q", got, c.want)
			}
		})
	}

	t.Run("COPY", func(t *testing.T) {
		e.heard()
		_, err := db.conn.CopyFrom(testContext(t), pgx.Identifier{"users"}, []string{"id"}, pgx.CopyFromRows([][]any{{u9}}))
		if err != nil {
			t.Fatal(err)
		}
		e.sync(t, db)
		if got := e.heard(); got != "u:"+u9 {
			t.Errorf("heard %q, want the user", got)
		}
	})
}

// Whoever may only update users needs no right to notify, and cannot stop it by
// functions and operators of its own.
func TestNoticesDoNotDependOnWhoChangesARow(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.addUser(userID(1), "ada@example.com", companyID(1))
	e := listen(t, db.url)
	e.settle(t)
	e.heard()
	db.exec(`CREATE SCHEMA evil`)
	db.exec(`CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT'`)
	db.exec(`CREATE FUNCTION evil.never(text, uuid) RETURNS text LANGUAGE sql AS $$ SELECT 'x'::text $$`)
	db.exec(`CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = uuid, FUNCTION = evil.never)`)
	role := "notice_" + strings.ReplaceAll(db.one(`SELECT gen_random_uuid()`), "-", "")
	db.exec(`CREATE ROLE ` + role)
	db.exec(`GRANT SELECT, UPDATE ON users TO ` + role)
	db.exec(`GRANT USAGE ON SCHEMA evil TO ` + role)
	db.exec(`SET search_path = evil, public, pg_catalog`)
	db.exec(`SET ROLE ` + role)
	db.exec(`UPDATE users SET is_active = false`)
	db.exec(`RESET ROLE`)
	db.exec(`RESET search_path`)
	db.exec(`DROP OWNED BY ` + role)
	db.exec(`DROP ROLE ` + role)
	e.settle(t)
	if got, want := e.heard(), "u:"+userID(1).String(); got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// BenchmarkNotice is the time from a commit's acknowledgement to the sink.
func BenchmarkNotice(b *testing.B) {
	url := postgrestest.New(b)
	if _, err := postgres.Migrate(b.Context(), url, postgres.MigrateOptions{}); err != nil {
		b.Fatal(err)
	}
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(b.Context(), `INSERT INTO users (email, is_active) VALUES ('ada@example.com', true)`); err != nil {
		b.Fatal(err)
	}
	told := make(chan time.Time, 1)
	l, err := postgres.NewListener(postgres.ListenerOptions{URL: url, Sink: &chime{told: told}})
	if err != nil {
		b.Fatal(err)
	}
	go l.Run(b.Context())
	<-told // the flush of the connection
	var took []time.Duration
	for b.Loop() {
		if _, err := conn.Exec(b.Context(), `UPDATE users SET is_active = NOT is_active`); err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		took = append(took, max(0, (<-told).Sub(committed)))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us-p99")
}

// chime tells when something was told.
type chime struct {
	ear
	told chan time.Time
}

func (c *chime) User(identity.UserID) { c.told <- time.Now() }
func (c *chime) Flush()               { c.told <- time.Now() }

func TestALostConnectionIsMadeAgainAndTellsToForgetEverything(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	db := connect(t, server.New())
	db.migrate()
	e := listen(t, db.url)
	e.settle(t)
	for _, c := range []struct {
		name string
		end  func()
		want string
	}{
		{"the backend is ended", func() {
			db.exec(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'the listener'`)
		}, "57P01"},
		{"the server is restarted", func() { server.Stop(); server.Start() }, ""},
		{"the server crashes", func() { server.Kill(); server.Start() }, ""},
	} {
		if got := e.heard(); !strings.HasPrefix(got, "flush") {
			t.Errorf("before %s: the first proof of a connection came without a flush (%q)", c.name, got)
		}
		before := e.reasons()
		c.end()
		eventually(t, "the loss is told when "+c.name, func() bool { return e.reasons() != before })
		e.settle(t)
		if got := e.reasons()[len(before):]; !strings.Contains(got, c.want) || strings.Contains(got, "->") {
			t.Errorf("%s: reasons %q, want %q in them and no port of ours", c.name, got, c.want)
		}
	}
}

func TestAFrozenConnectionIsNoticedAndReplaced(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	proxy := newProxy(t, db.url)
	e := listen(t, proxy.url)
	e.settle(t)
	proxy.freeze()
	frozen := time.Now()
	eventually(t, "the silence is noticed", func() bool { return e.reasons() != "" })
	if !strings.Contains(e.reasons(), "not answered in time") {
		t.Errorf("reasons: %s", e.reasons())
	}
	e.mu.Lock()
	if e.proof.After(frozen) {
		t.Errorf("a proof of life over a frozen connection")
	}
	e.mu.Unlock()
	proxy.thaw()
	e.settle(t)
}

func TestADatabaseThatDoesNotAnnounceIsNotTrusted(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	e := listen(t, db.url)
	for _, c := range []struct {
		name, breaks string
		mends        string // empty: gatehouse migrate
	}{
		{"a trigger is off", `ALTER TABLE users DISABLE TRIGGER gatehouse_users_changed`, `ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_changed`},
		{"a trigger sleeps during a restore", `ALTER TABLE sessions ENABLE TRIGGER gatehouse_sessions_changed`, `ALTER TABLE sessions ENABLE ALWAYS TRIGGER gatehouse_sessions_changed`},
		{"a function says nothing", `CREATE OR REPLACE FUNCTION gatehouse_notice_user() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`, ""},
		{"a function looks where its caller says", `ALTER FUNCTION gatehouse_notice_session() RESET search_path`, ""},
		{"a trigger calls another function", `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			DROP TRIGGER gatehouse_companies_changed ON companies;
			CREATE TRIGGER gatehouse_companies_changed AFTER UPDATE ON companies FOR EACH ROW EXECUTE FUNCTION nothing();
			ALTER TABLE companies ENABLE ALWAYS TRIGGER gatehouse_companies_changed`, ""},
		{"a trigger looks at less", `DROP TRIGGER gatehouse_users_changed ON users;
			CREATE TRIGGER gatehouse_users_changed AFTER UPDATE ON users FOR EACH ROW WHEN (OLD.role IS DISTINCT FROM NEW.role) EXECUTE FUNCTION gatehouse_notice_user();
			ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_changed`, ""},
		{"a trigger is replaced by one that looks at less", `CREATE OR REPLACE TRIGGER gatehouse_companies_changed AFTER UPDATE ON companies
			FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id) EXECUTE FUNCTION gatehouse_notice_company();
			ALTER TABLE companies ENABLE ALWAYS TRIGGER gatehouse_companies_changed`, ""},
		{"a column has taken the place of the one that is compared", `BEGIN; ALTER TABLE users ADD active2 boolean; UPDATE users SET active2 = is_active;
			ALTER TABLE users RENAME is_active TO active1; ALTER TABLE users RENAME active2 TO is_active; COMMIT`, ""},
		{"a function and its triggers are gone", `DROP FUNCTION gatehouse_notice_flush CASCADE`, ""},
		{"a table is gone", `ALTER TABLE company_members RENAME TO elsewhere`, `ALTER TABLE elsewhere RENAME TO company_members`},
	} {
		e.settle(t)
		before := len(e.reasons())
		db.exec(c.breaks)
		eventually(t, "the loss is told when "+c.name, func() bool { return strings.Contains(e.reasons()[before:], "gatehouse migrate puts it back") })
		e.heard()
		if c.mends != "" {
			db.exec(c.mends)
		} else {
			db.migrate()
		}
		e.settle(t)
		if got := e.heard(); !strings.HasPrefix(got, "flush") {
			t.Errorf("%s: trusted again without a flush (%q)", c.name, got)
		}
	}

	// It can all be over between two heartbeats.
	db.addUser(userID(1), "ada@example.com", companyID(1))
	e.settle(t)
	e.heard()
	function := db.one(`SELECT pg_get_functiondef('gatehouse_notice_user'::regproc)`)
	db.exec(`BEGIN; CREATE OR REPLACE FUNCTION gatehouse_notice_user() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		UPDATE users SET role = 'admin'; ` + function + `; COMMIT`)
	e.settle(t)
	if got := e.heard(); got != "flush" {
		t.Errorf("heard %q of a change made while a function said nothing, want a flush", got)
	}

	// As pg_restore --disable-triggers does it.
	db.exec(`BEGIN; ALTER TABLE users DISABLE TRIGGER ALL; UPDATE users SET is_active = false;
		ALTER TABLE users ENABLE TRIGGER ALL; ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_changed;
		ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_came_or_went; ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_truncated;
		ALTER TABLE users ENABLE ALWAYS TRIGGER gatehouse_users_moved; COMMIT`)
	e.settle(t)
	if got := e.heard(); got != "flush" {
		t.Errorf("heard %q of a change made with the triggers off, want a flush", got)
	}

	bare := newDatabase(t)
	unmigrated := listen(t, bare.url)
	eventually(t, "a database without our tables is refused", func() bool { return strings.Contains(unmigrated.reasons(), "gatehouse migrate puts it back") })
	bare.migrate()
	unmigrated.settle(t)
}

func TestNewListenerRefuses(t *testing.T) {
	t.Parallel()
	good := "postgres://u:test-secret@127.0.0.1:1/d"
	for name, opts := range map[string]postgres.ListenerOptions{
		"a malformed URL":    {URL: "postgres://u:test-secret@:x/d", Sink: &ear{}},
		"nobody to tell":     {URL: good},
		"a negative bound":   {URL: good, Sink: &ear{}, ProofOfLife: -1},
		"no database at all": {Sink: &ear{}},
	} {
		if _, err := postgres.NewListener(opts); err == nil || strings.Contains(fmt.Sprint(err), "test-secret") {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}
