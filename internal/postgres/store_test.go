package postgres_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
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
	_, err = store.Standing(testContext(t), userID(1), identity.SessionID{}, identity.CompanyID{})
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
			login, err := store.StartSession(ctx, identity.LoginRequest{User: made.ID, PasswordHash: "a-new-hash", Lifetime: time.Hour})
			if err != nil {
				t.Error(err)
			}
			change := identity.PasswordChange{User: made.ID, Session: login.ID, OldHash: "a-new-hash", NewHash: "another-hash", Admit: admitAll}
			if _, _, err := store.ChangePassword(ctx, change); err != nil {
				t.Error(err)
			}
			change = identity.PasswordChange{User: made.ID, OldHash: "another-hash", NewHash: "a-third-hash", Lifetime: time.Hour, Admit: admitAll}
			if _, ended, err := store.ChangePassword(ctx, change); err != nil || ended != 1 {
				t.Errorf("%d sessions, %v", ended, err)
			}
			for _, scope := range []identity.LogoutScope{identity.LogoutLocal, identity.LogoutOthers, identity.LogoutGlobal} {
				if _, err := store.EndSessions(ctx, identity.LogoutRequest{User: made.ID, Scope: scope, Admit: admitAll}); err != nil {
					t.Error(err)
				}
			}
			if _, err := store.RevokeUser(ctx, made.ID); err != nil {
				t.Error(err)
			}
			if _, err := store.SweepSessions(ctx); err != nil {
				t.Error(err)
			}
			if got, err := store.Profile(ctx, made.ID, login.ID); err != nil || got.User.ID != made.ID || !got.Standing.Session.Ended {
				t.Errorf("Profile = %+v, %v", got, err)
			}
			if got, err := store.AccountByID(ctx, made.ID); err != nil || got.PasswordHash != "a-third-hash" {
				t.Errorf("AccountByID = %+v, %v", got, err)
			}
			if _, err := store.SetSuspended(ctx, companyID(2), true); err != nil {
				t.Error(err)
			}
			if got, err := store.ListMembers(ctx, companyID(2)); err != nil || len(got) != 1 {
				t.Errorf("ListMembers = %+v, %v", got, err)
			}
			if changed, err := store.SetActive(ctx, made.ID, false); !changed || err != nil {
				t.Errorf("SetActive = %v, %v", changed, err)
			}
			if _, err := store.SetPassword(ctx, made.ID, "a-hash"); err != nil {
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
			if listed, err := store.ListCompanies(ctx); err != nil || len(listed) != 2 || listed[0].Users != 1 {
				t.Errorf("ListCompanies = %+v, %v", listed, err)
			}
		})
	}
}

func TestCollectorShowsEveryQueryBeforeItIsAsked(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	store := db.open(postgres.Options{MaxConns: 7})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(store.Collector())
	if n, err := testutil.GatherAndCount(registry, "gatehouse_database_query_duration_seconds"); err != nil || n != 2*postgres.QueryCount() {
		t.Errorf("%d series of query times (%v), want two for each query", n, err)
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
	if _, err := store.Standing(testContext(t), userID(1), sessionID(1), identity.CompanyID{}); err == nil {
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

func TestAServicePlansOnce(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	cases := []struct {
		name string
		opts postgres.Options
		want string
	}{
		{"a service", postgres.Options{URL: db.url, PlanOnce: true}, "force_generic_plan"},
		{"anybody else", postgres.Options{URL: db.url}, "auto"},
		{"a service behind a proxy that pools transactions", postgres.Options{URL: db.url + "&default_query_exec_mode=exec", PlanOnce: true}, "auto"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := postgres.PlanMode(testContext(t), db.open(c.opts))
			if err != nil || got != c.want {
				t.Errorf("got %q and %v, want %q", got, err, c.want)
			}
		})
	}
}
