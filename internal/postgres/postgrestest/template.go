package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Template is a database as many tests want it at their beginning. It is made once
// in a process, by the first of them, and copied for each.
type Template struct {
	made func() (name string, err error)
}

// NewTemplate says how it is made of an empty database, which is not before a test
// asks for a copy. Nobody may be connected to it afterwards.
func NewTemplate(fill func(ctx context.Context, url string) error) *Template {
	return &Template{made: sync.OnceValues(func() (string, error) {
		server, err := shared()
		if err != nil {
			return "", fmt.Errorf("starting PostgreSQL for tests: %w", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		name := databaseName()
		if err := server.EnsureDatabase(ctx, name); err != nil {
			return "", err
		}
		return name, fill(ctx, server.URL(name))
	})}
}

// New makes a copy on the process's server and returns its URL. It ends as one of
// the function New does.
func (m *Template) New(t testing.TB) string {
	t.Helper()
	template, err := m.made()
	if err != nil {
		t.Fatalf("making the database that tests begin with: %v", err)
	}
	server, err := shared()
	if err != nil {
		t.Fatalf("starting PostgreSQL for tests: %v", err)
	}
	name := databaseName()
	if err := clone(server.URL("postgres"), template, name); err != nil {
		t.Fatalf("copying a database: %v", err)
	}
	dropAtEnd(t, server, name)
	return server.URL(name)
}

// inUse is what PostgreSQL says of a template while somebody's connection to it is
// still being closed.
const inUse = "55006"

func clone(url, template, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE "+pgx.Identifier{template}.Sanitize())
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != inUse {
			return err
		}
	}
}
