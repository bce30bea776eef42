package devstack_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/devstack"
)

func startPostgres(t *testing.T, bin, stateDir string) *devstack.Postgres {
	t.Helper()
	p, err := devstack.StartPostgres(within(t, time.Minute), devstack.PostgresOptions{Bin: bin, StateDir: stateDir, Disposable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()) })
	return p
}

// stateDir is a state directory whose database goes with it, wherever it lies.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if elsewhere, err := os.ReadFile(filepath.Join(dir, "postgres-home")); err == nil {
			_ = os.RemoveAll(strings.TrimSpace(string(elsewhere)))
		}
	})
	return dir
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(within(t, 10*time.Second), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got string
	for rows.Next() {
		if err := rows.Scan(&got); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func TestADatabaseKeepsItsRowsAndPasswordOverRuns(t *testing.T) {
	bin, dir := machinePostgres(t).Path, stateDir(t)
	first := startPostgres(t, bin, dir)
	if err := first.EnsureDatabase(t.Context(), "atenex"); err != nil {
		t.Fatal(err)
	}
	query(t, first.URL("atenex"), "CREATE TABLE kept AS SELECT 'row' AS v")
	if err := first.Stop(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if !gone(first.PID()) {
		t.Error("the server runs on after Stop")
	}

	second := startPostgres(t, bin, dir)
	if err := second.EnsureDatabase(t.Context(), "atenex"); err != nil {
		t.Errorf("a database that is there already: %v", err)
	}
	if got := query(t, second.URL("atenex"), "SELECT v FROM kept"); got != "row" {
		t.Errorf("got %q after the restart, want the row", got)
	}
	if second.DataDir() != first.DataDir() {
		t.Errorf("the data moved from %s to %s", first.DataDir(), second.DataDir())
	}
}

func TestTheServerIsNobodyElses(t *testing.T) {
	p := startPostgres(t, machinePostgres(t).Path, stateDir(t))

	url := p.URL("postgres")
	_, rest, _ := strings.Cut(url, "postgres:")
	password, _, _ := strings.Cut(rest[strings.Index(rest, ":")+1:], "@")
	args, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/cmdline")
	if err == nil && strings.Contains(string(args), password) {
		t.Error("the password is among the server's arguments")
	}
	for _, wrong := range []string{strings.Replace(url, password, "wrong", 1), strings.Replace(url, ":"+password, "", 1)} {
		if conn, err := pgx.Connect(within(t, 5*time.Second), wrong); err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("%s was let in", strings.ReplaceAll(wrong, password, "..."))
		}
	}
	if got := query(t, url, "SHOW listen_addresses"); got != "127.0.0.1" {
		t.Errorf("it listens on %q, want loopback alone", got)
	}
	if p.Port() == 5432 {
		t.Error("it took the port of an installed PostgreSQL")
	}
	for path, want := range map[string]os.FileMode{
		p.DataDir(): 0o700, filepath.Join(filepath.Dir(p.DataDir()), "password"): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
}

// What the server says is printed by up and kept wherever that goes.
func TestNoRowAndNoStatementReachesTheLog(t *testing.T) {
	var said output
	p, err := devstack.StartPostgres(within(t, time.Minute), devstack.PostgresOptions{
		Bin: machinePostgres(t).Path, StateDir: stateDir(t), Disposable: true, Output: &said,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()) })
	conn, err := pgx.Connect(within(t, 10*time.Second), p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, sql := range []string{
		"CREATE TABLE people (id int NOT NULL, hash text UNIQUE)",
		"INSERT INTO people VALUES (1, 'test-hash-in-a-row')",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		"UPDATE people SET id = NULL",                             // DETAIL names the row
		"INSERT INTO people VALUES (2, 'test-hash-in-a-row')",     // and this one the key
		"UPDATE people SET password = 'test-hash-in-a-statement'", // STATEMENT holds all of it
	} {
		if _, err := conn.Exec(t.Context(), sql); err == nil {
			t.Fatalf("%s did not fail", sql)
		}
	}
	if err := p.Stop(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if text := said.String(); !strings.Contains(text, `"password" of relation "people" does not exist`) || strings.Contains(text, "test-hash") {
		t.Errorf("want the errors, and no row or statement, in:\n%s", text)
	}
}

func TestAStateDirectoryServesOneServerAtATime(t *testing.T) {
	bin, dir := machinePostgres(t).Path, stateDir(t)
	startPostgres(t, bin, dir)
	_, err := devstack.StartPostgres(within(t, time.Minute), devstack.PostgresOptions{Bin: bin, StateDir: dir})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second server on the same data: %v, want a refusal", err)
	}
}

func TestAStartDealsWithWhatAKilledRunnerLeft(t *testing.T) {
	bin := machinePostgres(t).Path
	dir := stateDir(t)
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, p *devstack.Postgres)
	}{
		{"the pid file of a server that was killed", func(t *testing.T, p *devstack.Postgres) {
			if err := p.Kill(); err != nil {
				t.Fatal(err)
			}
		}},
		{"a pid file whose number is another process's now", func(t *testing.T, p *devstack.Postgres) {
			pidFile := filepath.Join(p.DataDir(), "postmaster.pid")
			content, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(within(t, 10*time.Second)); err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(content), "\n")
			if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0o666); err != nil {
				t.Fatal(err)
			}
		}},
		{"a server that still runs", func(_ *testing.T, p *devstack.Postgres) { devstack.Abandon(p) }},
		{"half a cluster", func(t *testing.T, p *devstack.Postgres) {
			if err := p.Stop(within(t, 10*time.Second)); err != nil {
				t.Fatal(err)
			}
			half := filepath.Join(filepath.Dir(p.DataDir()), "data.new", "base")
			if err := os.MkdirAll(half, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := startPostgres(t, bin, dir)
			query(t, before.URL("postgres"), "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 'row' AS v")
			c.leave(t, before)
			after := startPostgres(t, bin, dir)
			if got := query(t, after.URL("postgres"), "SELECT v FROM kept"); got != "row" {
				t.Errorf("got %q, want the row", got)
			}
			if !gone(before.PID()) {
				t.Error("the server before runs on")
			}
		})
	}
}

func TestAStartThatCannotSucceedSaysWhy(t *testing.T) {
	bin, dir := machinePostgres(t).Path, stateDir(t)
	p := startPostgres(t, bin, dir)
	if err := p.Stop(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		file    string // beside the data
		content string // in its place; empty removes it
		want    string
	}{
		{"data of another version", "data/PG_VERSION", "12\n", "was made by PostgreSQL 12"},
		{"a lost password", "password", "", "reading the password"},
		{"a changed password", "password", "another", "does not know the password"},
		{"a setting it does not know", "data/postgresql.conf", "no_such_setting = on\n", "no_such_setting"},
		{"a foreign directory in its place", "data/PG_VERSION", "", "neither empty nor a database cluster"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(filepath.Dir(p.DataDir()), c.file)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if c.content != "" {
				writeReadable(t, path, c.content)
			}
			t.Cleanup(func() { writeReadable(t, path, string(before)) })
			again, err := devstack.StartPostgres(within(t, 20*time.Second), devstack.PostgresOptions{Bin: bin, StateDir: dir})
			if err == nil {
				_ = again.Stop(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// writeReadable writes a file that the server's user can read as well.
func writeReadable(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAPortThatIsTakenIsAnErrorThatSaysSo(t *testing.T) {
	bin := machinePostgres(t).Path
	first := startPostgres(t, bin, stateDir(t))
	again := stateDir(t)
	_, err := devstack.StartPostgres(within(t, time.Minute), devstack.PostgresOptions{Bin: bin, StateDir: again, Port: first.Port(), Disposable: true})
	if err == nil || !strings.Contains(err.Error(), "could not bind") {
		t.Errorf("error %v, want one about the port", err)
	}
}
