package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// One statement for many must never say anything but the statement for one.
func TestStandingsSayWhatStandingSays(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	unprepared := db.open(postgres.Options{URL: withParameter(db.url, "default_query_exec_mode=exec")})
	db.addCompany(companyID(1), true)
	db.addCompany(companyID(2), false)
	for n := 1; n <= 20; n++ {
		db.addUser(userID(n), fmt.Sprintf("u%d@example.com", n), companyID(n%4)) // 0: an id that companies does not know
		if n%3 == 0 {
			db.addMember(userID(n), companyID(2), "editor")
		}
		if n%2 == 0 {
			db.exec(`INSERT INTO sessions (id, user_id, auth_time, not_after, ended_at)
				VALUES ($1, $2, '2026-01-01', '2026-02-01', CASE WHEN $3 THEN now() END)`, sessionID(n).String(), userID(n).String(), n%4 == 0)
		}
		if n%5 == 0 {
			db.exec(`UPDATE users SET is_active = false, tokens_valid_after = now() WHERE id = $1`, userID(n).String())
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	var questions []identity.Question
	for range 256 { // some twice, some of users and sessions that are not there
		q := identity.Question{User: userID(random.IntN(24)), Company: companyID(random.IntN(4))}
		if random.IntN(2) == 0 {
			q.Session = sessionID(random.IntN(24))
		}
		if random.IntN(4) == 0 {
			q.Company = identity.CompanyID{}
		}
		questions = append(questions, q)
	}
	questions[7] = identity.Question{}
	for how, s := range map[string]*postgres.Store{"prepared": store, "unprepared": unprepared} {
		got, err := s.Standings(testContext(t), questions)
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if len(got) != len(questions) {
			t.Fatalf("%s: %d answers to %d questions", how, len(got), len(questions))
		}
		for i, q := range questions {
			want, err := store.Standing(testContext(t), q.User, q.Session, q.Company)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got[i]); diff != "" {
				t.Errorf("%s, question %d %+v (-one +many):\n%s", how, i, q, diff)
			}
		}
	}
	if got, err := store.Standings(testContext(t), nil); err != nil || len(got) != 0 {
		t.Errorf("no question: %v, %v", got, err)
	}
	db.exec(`DROP TABLE company_members`)
	if _, err := store.Standings(testContext(t), questions); err == nil {
		t.Error("a store without its tables answers")
	}
}
