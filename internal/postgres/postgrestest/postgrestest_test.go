package postgrestest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

func connect(t *testing.T, url string) (*pgx.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func do(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := connect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t *testing.T, url, sql string) int {
	t.Helper()
	conn, err := connect(t, url)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

const userTables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"

func TestEveryTestHasAnEmptyDatabaseOfItsOwnThatEndsWithIt(t *testing.T) {
	var first string
	t.Run("one", func(t *testing.T) {
		first = postgrestest.New(t)
		do(t, first, "CREATE TABLE users (id int)")
	})
	second := postgrestest.New(t)
	if first == second {
		t.Fatal("two tests got the same database")
	}
	if n := count(t, second, userTables); n != 0 {
		t.Errorf("a new database has %d tables, want none", n)
	}
	if _, err := connect(t, first); err == nil {
		t.Error("the database of a finished test still exists")
	}
}

func TestADatabaseIsDroppedAlthoughSomebodyIsConnected(t *testing.T) {
	var url string
	t.Run("left connected", func(t *testing.T) {
		url = postgrestest.New(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn // deliberately left open
	})
	if _, err := connect(t, url); err == nil {
		t.Error("the database still exists")
	}
}

func TestADedicatedServerComesBackOnItsPortWithItsRows(t *testing.T) {
	server := postgrestest.Server(t)
	url := server.New()
	do(t, url, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
	port := server.Port()

	for _, end := range []struct {
		name string
		end  func()
	}{{"stopped", server.Stop}, {"killed", server.Kill}} {
		end.end()
		if _, err := connect(t, url); err == nil {
			t.Errorf("%s: the server still lets clients in", end.name)
		}
		server.Start()
		if server.Port() != port {
			t.Errorf("%s: came back on port %d, want %d", end.name, server.Port(), port)
		}
		if n := count(t, url, "SELECT count(*) FROM kept"); n != 1 {
			t.Errorf("%s: %d rows after the restart, want 1", end.name, n)
		}
	}
}

func TestACopyIsAsItsTemplateWasAndItsOwn(t *testing.T) {
	made := 0
	template := postgrestest.NewTemplate(func(ctx context.Context, url string) error {
		made++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "CREATE TABLE users (id int)")
		return err
	})
	for range 2 {
		t.Run("a copy", func(t *testing.T) {
			url := template.New(t)
			if n := count(t, url, userTables); n != 1 {
				t.Errorf("%d tables, want 1", n)
			}
			do(t, url, "DROP TABLE users")
		})
	}
	if made != 1 {
		t.Errorf("the template was made %d times, want once", made)
	}
}
