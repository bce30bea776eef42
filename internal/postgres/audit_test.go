package postgres_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// audited is the log as "event outcome details", oldest first.
func (d *database) audited() []string {
	d.t.Helper()
	text := d.one(`SELECT string_agg(concat_ws(' ', event, nullif(outcome, 'success'), nullif(details::text, '{}')), E'\n' ORDER BY at, id) FROM audit_log`)
	if text == "NULL" {
		return nil
	}
	return strings.Split(text, "\n")
}

func TestARecordHoldsWhoDidWhatToWhomAndFromWhere(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addUser(userID(2), "bob@example.com", identity.CompanyID{})
	event := identity.Event{
		Name: "login.failure", Outcome: identity.Failure, Actor: userID(1), Subject: userID(2), Company: companyID(3), Session: sessionID(4),
		Details: map[string]any{"reason": "a\u00e9\x00" + strings.Repeat("x", 500), "sessions": 3},
	}
	from := identity.Origin{Operator: "root", Address: netip.MustParseAddr("192.0.2.7"), RequestID: strings.Repeat("r", 200)}
	if err := store.Audit(identity.WithOrigin(testContext(t), from), event); err != nil {
		t.Fatal(err)
	}
	got, err := store.AuditLog(testContext(t), postgres.AuditFilter{Limit: 10})
	if err != nil || len(got) != 1 {
		t.Fatalf("the log is %+v, %v", got, err)
	}
	want := postgres.AuditRecord{
		Event: event, Origin: identity.Origin{Operator: "root", Address: from.Address, RequestID: strings.Repeat("r", 64)},
		SubjectEmail: "bob@example.com",
	}
	want.Details = map[string]any{"reason": "a??" + strings.Repeat("x", 253), "sessions": 3.0}
	if diff := cmp.Diff(want, got[0], cmpopts.IgnoreFields(postgres.AuditRecord{}, "ID", "At"), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if age := time.Since(got[0].At); age < -time.Minute || age > time.Minute {
		t.Errorf("it happened %v ago", age)
	}
	if err := store.Audit(testContext(t), identity.Event{}); err == nil {
		t.Error("an event without a name was recorded")
	}
}

func TestTheLogIsReadByWhomWhatAndWhen(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	for _, e := range []identity.Event{
		{Name: "login.success", Actor: userID(1), Subject: userID(1)},
		{Name: "login.failure", Outcome: identity.Failure, Subject: userID(2)},
		{Name: "company.joined", Actor: userID(1), Subject: userID(1), Company: companyID(1)},
		{Name: "invitation.created", Actor: userID(1), Subject: userID(2), Company: companyID(1)},
		{Name: "loginx", Company: companyID(2)},
	} {
		if err := store.Audit(testContext(t), e); err != nil {
			t.Fatal(err)
		}
	}
	db.exec(`INSERT INTO audit_log (at, event, outcome) VALUES (now() - interval '2 hours', 'old', 'success')`)
	for _, c := range []struct {
		name   string
		filter postgres.AuditFilter
		want   string
	}{
		{"everything, oldest first", postgres.AuditFilter{Limit: 9}, "old login.success login.failure company.joined invitation.created loginx"},
		{"the newest that fit", postgres.AuditFilter{Limit: 2}, "invitation.created loginx"},
		{"of a user, whether it did it or had it done", postgres.AuditFilter{User: userID(2), Limit: 9}, "login.failure invitation.created"},
		{"of a company", postgres.AuditFilter{Company: companyID(1), Limit: 9}, "company.joined invitation.created"},
		{"by the beginning of the event's name", postgres.AuditFilter{Prefix: "login.", Limit: 9}, "login.success login.failure"},
		{"a wildcard is none", postgres.AuditFilter{Prefix: "%", Limit: 9}, ""},
		{"since", postgres.AuditFilter{Since: time.Now().Add(-time.Hour), Prefix: "o", Limit: 9}, ""},
		{"all at once", postgres.AuditFilter{User: userID(1), Company: companyID(1), Prefix: "company", Since: time.Now().Add(-time.Hour), Limit: 9}, "company.joined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			records, err := store.AuditLog(testContext(t), c.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range records {
				got = append(got, r.Name)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got  %q\nwant %q", strings.Join(got, " "), c.want)
			}
		})
	}
}

func TestTheLogIsAppendOnly(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.exec(`INSERT INTO audit_log (at, event, outcome) SELECT now() - n * interval '40 days', 'e', 'success' FROM generate_series(0, 3) n`)
	partition := db.one(`SELECT min(relname) FROM pg_class WHERE relname ~ '^audit_log_2'`)
	for _, sql := range []string{
		`UPDATE audit_log SET event = 'other'`,
		`DELETE FROM audit_log`,
		`TRUNCATE audit_log`,
		`TRUNCATE audit_log_default`,
		`TRUNCATE ` + partition,
		`UPDATE ` + partition + ` SET at = now() - interval '400 days'`,
		`SET gatehouse.audit_tend = 'on'; UPDATE audit_log SET event = 'other'`,
		`SET gatehouse.audit_tend = 'on'; DELETE FROM audit_log WHERE at > now() - interval '1 hour'`,
	} {
		if _, err := db.conn.Exec(testContext(t), sql); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v, want it refused", sql, err)
		}
		db.exec(`RESET gatehouse.audit_tend`)
	}
	if got := len(db.audited()); got != 4 {
		t.Errorf("%d rows are left of 4", got)
	}
	db.exec(`CREATE ROLE audit_stranger; GRANT SELECT, INSERT ON audit_log TO audit_stranger; GRANT USAGE ON SCHEMA public TO audit_stranger; SET ROLE audit_stranger`)
	defer db.exec(`RESET ROLE; DROP OWNED BY audit_stranger; DROP ROLE audit_stranger`)
	db.exec(`INSERT INTO audit_log (event, outcome) VALUES ('e', 'success')`)
	if _, err := db.conn.Exec(testContext(t), `SELECT gatehouse_audit_tend('1 day')`); err == nil {
		t.Error("whoever may write the log may shorten it")
	}
}

func TestTheLogForgetsWhatIsPastItsTime(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	const months = `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^audit_log_[0-9_]+$' AND relkind = 'r'`
	made := db.one(months)
	if want := db.one(`SELECT string_agg('audit_log_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY_MM'), ' ' ORDER BY n) FROM generate_series(0, 2) n`); made != want {
		t.Errorf("the migration made %s, want %s", made, want)
	}
	db.exec(`CREATE TABLE audit_log_2001_01 PARTITION OF audit_log FOR VALUES FROM ('2001-01-01Z') TO ('2001-02-01Z')`)
	db.exec(`INSERT INTO audit_log (at, event, outcome) VALUES ('2001-01-15Z', 'in a month', 'success')`)
	db.exec(`INSERT INTO audit_log (at, event, outcome) VALUES (now() - interval '400 days', 'old', 'success'), (now() - interval '300 days', 'young', 'success'), (now(), 'now', 'success')`)

	for _, c := range []struct {
		name      string
		retention time.Duration
		want      postgres.AuditTended
		left      []string
	}{
		{"for ever", 0, postgres.AuditTended{}, []string{"in a month", "old", "young", "now"}},
		{"a year", 365 * 24 * time.Hour, postgres.AuditTended{Dropped: 1, Deleted: 1}, []string{"young", "now"}},
		{"a year, again", 365 * 24 * time.Hour, postgres.AuditTended{}, []string{"young", "now"}},
		{"a second is taken for a day", time.Second, postgres.AuditTended{Deleted: 1}, []string{"now"}},
	} {
		did, err := store.TendAudit(testContext(t), c.retention)
		if err != nil || did != c.want {
			t.Errorf("%s: did %+v, %v; want %+v", c.name, did, err, c.want)
		}
		if got := db.audited(); !cmp.Equal(got, c.left) {
			t.Errorf("%s: left %q, want %q", c.name, got, c.left)
		}
	}

	// A month that was missed is made again; one whose rows had to be taken in by
	// the default partition is not, and both take new rows.
	last := made[strings.LastIndex(made, " ")+1:]
	db.exec(`DROP TABLE ` + last)
	if did, err := store.TendAudit(testContext(t), 0); err != nil || did.Made != 1 || db.one(months) != made {
		t.Errorf("did %+v, %v; months %s, want %s", did, err, db.one(months), made)
	}
	if broken := db.status().Broken; len(broken) != 0 {
		t.Errorf("what was made is not guarded as the rest: %v", broken)
	}
	db.exec(`DROP TABLE ` + last)
	db.exec(`INSERT INTO audit_log (at, event, outcome) VALUES ((date_trunc('month', now() AT TIME ZONE 'UTC') + interval '70 days') AT TIME ZONE 'UTC', 'ahead', 'success')`)
	if did, err := store.TendAudit(testContext(t), 0); err != nil || did.Made != 0 {
		t.Errorf("with rows in the way: %+v, %v", did, err)
	}
}

// Somebody who reads the log for an hour holds up no login.
func TestTendingTheLogWaitsForNobody(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.exec(`CREATE TABLE audit_log_2001_01 PARTITION OF audit_log FOR VALUES FROM ('2001-01-01Z') TO ('2001-02-01Z')`)
	db.exec(`BEGIN; SELECT FROM audit_log`)
	did, err := store.TendAudit(testContext(t), 365*24*time.Hour)
	if err != nil || did.Dropped != 0 {
		t.Errorf("under a reader: %+v, %v", did, err)
	}
	if err := store.Audit(testContext(t), identity.Event{Name: "e"}); err != nil {
		t.Error(err)
	}
	db.exec(`COMMIT`)
	if did, err = store.TendAudit(testContext(t), 365*24*time.Hour); err != nil || did.Dropped != 1 {
		t.Errorf("without one: %+v, %v", did, err)
	}
}
