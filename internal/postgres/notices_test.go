package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/postgres"
)

func TestManyChangesOfOneTransactionBecomeOneFlush(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	db.exec(`INSERT INTO users (id, email) SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'u' || n FROM generate_series(1, 1000) n`)
	e := listen(t, db.url)
	const most = 500
	if postgres.NoticesAtOnce != most {
		t.Fatalf("the test is written for %d rows", most)
	}
	upTo := func(n int) string {
		return fmt.Sprintf(`UPDATE users SET is_active = NOT is_active WHERE email IN (SELECT 'u' || n FROM generate_series(1, %d) n)`, n)
	}
	for _, c := range []struct {
		name, sql string
		users     int
		flush     bool
	}{
		{"as many as are told one by one", upTo(most), most, false},
		{"one more", upTo(most + 1), most, true},
		{"by many statements, of the same rows", strings.Repeat(upTo(200)+";", 3), 200, true},
		{"in different tables", upTo(most-1) + `; INSERT INTO company_members (user_id, company_id) SELECT id, gen_random_uuid() FROM users WHERE email IN ('u1', 'u2')`, most - 1, true},
		{"loaded by a restore", `SET LOCAL session_replication_role = replica; ` + upTo(most+1), most, true},
		{"taken back to a savepoint", `SAVEPOINT s; ` + upTo(most+1) + `; ROLLBACK TO s; ` + upTo(1), 1, false},
		{"partly taken back", upTo(300) + `; SAVEPOINT s; ` + upTo(300) + `; ROLLBACK TO s; ` + upTo(200), 300, false},
		{"kept by a savepoint", `SAVEPOINT s; ` + upTo(300) + `; RELEASE s; ` + upTo(300), 300, true},
		{"the next transaction begins anew", upTo(1) + `; COMMIT; BEGIN; ` + upTo(most), most, false},
		{"a count that somebody made up tells too much, not too little",
			`SELECT set_config('gatehouse.notices', repeat('9', 1000), true); ` + upTo(1), 0, true},
		{"and one that is no count tells all", `SET LOCAL gatehouse.notices = '-1e9; x'; ` + upTo(1), 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := db.in(t)
			e.settle(t)
			e.heard()
			db.exec(`BEGIN; ` + c.sql + `; COMMIT`)
			e.sync(t, db)
			got, flushed := strings.CutSuffix(" "+e.heard(), " flush")
			if users := strings.Count(got, " u:"); users != c.users || flushed != c.flush {
				t.Errorf("heard of %d users, flush %t; want %d and %t", users, flushed, c.users, c.flush)
			}
		})
	}
}
