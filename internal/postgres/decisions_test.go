package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/internal/identity"
)

func TestD15PlainSQLThatMovesAUserTakesTheOldCompanyAway(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	for _, c := range []struct {
		name string
		sql  string
		want string // companies left, the current one first
	}{
		{"moved", `UPDATE users SET company_id = 'cccccccc-0000-4000-8000-000000000003' WHERE email = 'ada@example.com'`, "3 2"},
		{"moved to one that it is a member of", `UPDATE users SET company_id = 'cccccccc-0000-4000-8000-000000000002' WHERE email = 'ada@example.com'`, "2"},
		{"out", `UPDATE users SET company_id = NULL WHERE email = 'ada@example.com'`, "2"},
		{"under a restore", `SET session_replication_role = replica; UPDATE users SET company_id = NULL; SET session_replication_role = origin`, "2"},
		{"not moved", `UPDATE users SET company_id = company_id, full_name = 'Ada'`, "1 2"},
		{"by a join, which keeps it", ``, "2 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			db.exec(`TRUNCATE users, companies CASCADE`)
			db.addUser(userID(1), "ada@example.com", companyID(1))
			db.addMember(userID(1), companyID(1), "user")
			db.addMember(userID(1), companyID(2), "user")
			if c.sql == "" {
				if _, err := store.Join(testContext(t), identity.JoinRequest{User: userID(1), Want: companyID(2), Admit: admitAll}); err != nil {
					t.Fatal(err)
				}
			} else {
				db.exec(c.sql)
			}
			standing, err := store.Standing(testContext(t), userID(1), identity.SessionID{}, identity.CompanyID{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range standing.Memberships {
				got = append(got, fmt.Sprint(m.Company[15]))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}
