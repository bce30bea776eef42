package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
)

func TestACompanyIsSuspendedAndResumed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		setup func(db *database)
		want  error
	}{
		{"with a row", func(db *database) { db.addCompany(companyID(1), true) }, nil},
		{"with a row that does not say", func(db *database) {
			db.addCompany(companyID(1), true)
			db.exec(`ALTER TABLE companies ALTER COLUMN is_active DROP NOT NULL`)
			db.exec(`UPDATE companies SET is_active = NULL`)
		}, nil},
		{"without a row, somebody's current one", func(db *database) { db.addUser(userID(1), "ada@example.com", companyID(1)) }, nil},
		{"without a row and room for a whole name", func(db *database) {
			db.addUser(userID(1), "ada@example.com", companyID(1))
			db.exec(`ALTER TABLE companies ALTER COLUMN name TYPE varchar(8)`)
		}, nil},
		{"without a row, with a member", func(db *database) {
			db.addUser(userID(1), "ada@example.com", identity.CompanyID{})
			db.addMember(userID(1), companyID(1), "user")
		}, nil},
		{"that nobody knows", func(*database) {}, identity.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store, db := newStore(t)
			c.setup(db)
			for _, step := range []struct{ suspend, want bool }{{false, false}, {true, true}, {true, false}, {false, true}, {false, false}} {
				changed, err := store.SetSuspended(testContext(t), companyID(1), step.suspend)
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err == nil && changed != step.want {
					t.Fatalf("SetSuspended(%v) = %v, %v, want %v, %v", step.suspend, changed, err, step.want, c.want)
				}
				if err != nil {
					continue
				}
				now, err := store.Standing(testContext(t), userID(1), identity.SessionID{}, companyID(1))
				if err != nil || now.Exists && now.Suspended != step.suspend {
					t.Errorf("the standing says suspended: %v, %v; want %v", now.Suspended, err, step.suspend)
				}
			}
		})
	}
}

func TestTheMembersOfACompany(t *testing.T) {
	t.Parallel()
	store, db := newStore(t)
	db.addCompany(companyID(1), true)
	db.addCompany(companyID(2), true)
	db.addUser(userID(1), "Zoe@example.com", companyID(1))
	db.addMember(userID(1), companyID(1), "an older word") // stands once, as the current one
	db.addUser(userID(2), "ada@example.com", companyID(3))
	db.addMember(userID(2), companyID(1), "admin")
	list := func(company identity.CompanyID) ([]string, error) {
		members, err := store.ListMembers(testContext(t), company)
		var got []string
		for _, m := range members {
			got = append(got, fmt.Sprint(m.Email, " ", m.RoleThere, " ", m.Current))
		}
		return got, err
	}
	for _, c := range []struct {
		name    string
		company identity.CompanyID
		want    []string
		err     error
	}{
		{"by email, each once", companyID(1), []string{"ada@example.com admin false", "Zoe@example.com user true"}, nil},
		{"none", companyID(2), nil, nil},
		{"of a company without a row", companyID(3), []string{"ada@example.com user true"}, nil},
		{"of a company that nobody knows", companyID(4), nil, identity.ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := list(c.company); fmt.Sprint(got) != fmt.Sprint(c.want) || !errors.Is(err, c.err) {
				t.Errorf("got %v, %v, want %v, %v", got, err, c.want, c.err)
			}
		})
	}
}
