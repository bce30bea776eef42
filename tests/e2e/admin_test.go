package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// admin is an operator at psql: one connection straight to the database.
type admin struct {
	t    *testing.T
	conn *pgx.Conn
}

func newAdmin(t *testing.T, database string) *admin {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &admin{t: t, conn: conn}
}

// do runs statements, each with the same arguments or none, in one transaction
// and returns a time right after its commit.
func (a *admin) do(statements ...statement) (committed time.Time) {
	a.t.Helper()
	err := pgx.BeginFunc(a.t.Context(), a.conn, func(tx pgx.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(a.t.Context(), s.sql, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
	committed = time.Now()
	if err != nil {
		a.t.Fatalf("%v: %v", statements, err)
	}
	return committed
}

// copyIn is COPY ... FROM STDIN of one row.
func (a *admin) copyIn(table string, columns []string, row ...any) (committed time.Time) {
	a.t.Helper()
	n, err := a.conn.CopyFrom(a.t.Context(), pgx.Identifier{table}, columns, pgx.CopyFromRows([][]any{row}))
	committed = time.Now()
	if err != nil || n != 1 {
		a.t.Fatalf("COPY %s: %d rows, %v", table, n, err)
	}
	return committed
}

type statement struct {
	sql  string
	args []any
}

func sql(text string, args ...any) statement { return statement{text, args} }

// backends are the processes of the server that serve connections of these names.
func (a *admin) backends(names ...string) []int {
	a.t.Helper()
	rows, err := a.conn.Query(a.t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = ANY($1)`, names)
	if err != nil {
		a.t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		a.t.Fatal(err)
	}
	return pids
}

// freezeIdle stops those processes while they do nothing: one that is stopped at
// work may hold a lock that everybody needs.
func (a *admin) freezeIdle(names ...string) (resume func()) {
	a.t.Helper()
	pids := a.backends(names...)
	if len(pids) == 0 {
		a.t.Fatalf("nobody is connected as %s", names)
	}
	resume = func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	a.t.Cleanup(resume)
	for _, pid := range pids {
		eventually(a.t, fmt.Sprintf("backend %d is frozen while idle", pid), func() error { return freeze(pid) })
	}
	return resume
}

func freeze(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		// The state stands behind the name, which is in brackets.
		if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "T") {
			break
		}
	}
	// What it does is its command line.
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err
	}
	if what := strings.Trim(string(title), "\x00 "); !strings.HasSuffix(what, " idle") {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		return fmt.Errorf("it is %q", what)
	}
	return nil
}
