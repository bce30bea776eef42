package e2e

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// subject is somebody whose access is taken away and given back in one way.
type subject struct {
	name           string
	raw            string
	refusal        refusal
	revoke, revive func(*admin) time.Time
	w              *watch
}

// commits is a change of plain statements.
func commits(statements ...statement) func(*admin) time.Time {
	return func(a *admin) time.Time { a.t.Helper(); return a.do(statements...) }
}

// subjects are one for each way; the first makes everybody be forgotten.
func subjects(t *testing.T, s *stack) []*subject {
	t.Helper()
	var all []*subject
	add := func(name string, c claims, want refusal, revoke, revive func(*admin) time.Time) {
		all = append(all, &subject{name: name, raw: token(t, c), refusal: want, revoke: revoke, revive: revive})
	}
	const join = `INSERT INTO company_members (user_id, company_id) VALUES ($1::uuid, $2::uuid)`
	u, second := s.newMember(), s.newCompany()
	s.row(join, u.id, second)
	// Everybody else's memberships outlive it.
	add("company_members is truncated", claimsOf(u).with("company_id", second), companyLeft,
		commits(
			sql(`CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM company_members WHERE user_id <> '`+u.id+`'`),
			sql(`TRUNCATE company_members`),
			sql(`INSERT INTO company_members SELECT * FROM kept`)),
		commits(sql(join, u.id, second)))

	const setActive = `UPDATE users SET is_active = $2 WHERE id = $1::uuid`

	u = s.newMember()
	add("a user is disabled", claimsOf(u), inactiveUser, commits(sql(setActive, u.id, false)), commits(sql(setActive, u.id, true)))

	u = s.newMember()
	// As a restore or a replication apply changes rows.
	replicaRole := sql(`SET LOCAL session_replication_role = replica`)
	add("a user is disabled in the replica role", claimsOf(u), inactiveUser,
		commits(replicaRole, sql(setActive, u.id, false)), commits(replicaRole, sql(setActive, u.id, true)))

	u = s.newMember()
	sid := s.newSession(session{user: u.id, validFrom: time.Now().Add(-time.Hour), notAfter: time.Now().Add(time.Hour)})
	add("a session ends", claimsOf(u).with("sid", sid), revoked,
		commits(sql(`UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE id = $1::uuid`, sid)),
		commits(sql(`UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE id = $1::uuid`, sid)))

	u = s.newMember()
	add("tokens are taken back", claimsOf(u), revoked,
		commits(sql(`UPDATE users SET tokens_valid_after = now() WHERE id = $1::uuid`, u.id)),
		commits(sql(`UPDATE users SET tokens_valid_after = NULL WHERE id = $1::uuid`, u.id)))

	u, second = s.newMember(), s.newCompany()
	s.row(join, u.id, second)
	var userID, companyID pgtype.UUID
	if err := userID.Scan(u.id); err != nil {
		t.Fatal(err)
	}
	if err := companyID.Scan(second); err != nil {
		t.Fatal(err)
	}
	add("a membership is removed, and comes back by COPY", claimsOf(u).with("company_id", second), companyLeft,
		commits(sql(`DELETE FROM company_members WHERE user_id = $1::uuid`, u.id)),
		func(a *admin) time.Time {
			a.t.Helper()
			return a.copyIn("company_members", []string{"user_id", "company_id"}, userID, companyID)
		})

	u = s.newMember()
	add("a company is suspended", claimsOf(u), companyOnHold,
		commits(sql(`UPDATE companies SET is_active = false WHERE id = $1::uuid`, u.company)),
		commits(sql(`UPDATE companies SET is_active = true WHERE id = $1::uuid`, u.company)))

	u = s.newMember()
	add("a user is deleted", claimsOf(u), unknownUser,
		commits(sql(`DELETE FROM users WHERE id = $1::uuid`, u.id)),
		commits(sql(`INSERT INTO users (id, company_id, email, role, is_active) VALUES ($1::uuid, $2::uuid, $3, 'user', true)`, u.id, u.company, u.email)))

	u, second = s.newMember(), s.newCompany()
	move := `UPDATE users SET company_id = $2::uuid WHERE id = $1::uuid`
	add("a user moves to another company", claimsOf(u), companyLeft,
		commits(sql(move, u.id, second)), commits(sql(move, u.id, u.company)))
	return all
}

// Replicas that know nothing of each other, and every way in which access ends:
// none of them goes back on its first refusal.
func TestEveryReplicaHearsOfEveryChange(t *testing.T) {
	t.Parallel()
	f := startFleet(t, postgrestest.New(t), map[string]string{"GATEWAY_LOG_LEVEL": "WARNING"})
	all := subjects(t, f.stack)
	for _, test := range []struct {
		name     string
		rounds   int
		subjects []*subject
	}{
		{"one change each, all at the same time", 8, all[1:]},
		// It makes everything forgotten, and so would hide that another was not heard.
		{all[0].name, 3, all[:1]},
	} {
		t.Run(test.name, func(t *testing.T) { f.hears(t, test.rounds, test.subjects) })
	}
}

func (f *fleet) hears(t *testing.T, rounds int, subjects []*subject) {
	t.Helper()
	a := newAdmin(t, f.database)
	var watches []*watch
	for _, s := range subjects {
		s.w = f.watch(t, s.raw, s.refusal)
		s.w.name = s.name
		watches = append(watches, s.w)
	}
	for _, w := range watches {
		w.await("every replica lets it in", f.each(f.replicas, allowed, 1, time.Time{}))
	}
	f.remembers(t, watches[0])
	before := map[*replica]float64{}
	for _, r := range f.replicas {
		before[r] = r.mustMetric(t, "gatehouse_authz_cache_hits_total")
	}
	for round := range rounds {
		for _, s := range subjects {
			s.w.change(func() time.Time { return s.revoke(a) })
		}
		wantForgotten(refused, f.replicas, watches...)
		for _, s := range subjects {
			if round == rounds-1 { // until nothing of it can be remembered
				s.w.wantOutlasted(refused, f.replicas)
			}
			s.w.decided()
			s.w.change(func() time.Time { return s.revive(a) })
		}
		for _, w := range watches {
			w.wantGranted(f.replicas)
			w.decided()
		}
	}
	for _, r := range f.replicas {
		// Otherwise there was nothing to forget.
		if hits := r.mustMetric(t, "gatehouse_authz_cache_hits_total") - before[r]; hits < float64(rounds*len(subjects)) {
			t.Errorf("%s answered %v checks from memory, too few to say anything", r.host, hits)
		}
	}
}
