package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

func TestTheAuditLogIsFollowedRecordByRecord(t *testing.T) {
	t.Chdir(t.TempDir())
	environ := []string{"GATEWAY_DATABASE_URL=" + postgrestest.New(t)}
	gatehouse := func(ctx context.Context, stdout io.Writer, args ...string) int {
		return run(ctx, args, environ, strings.NewReader(""), stdout, io.Discard)
	}
	for _, args := range [][]string{{"migrate"}, {"company", "create", "One"}} {
		if code := gatehouse(t.Context(), io.Discard, args...); code != exitFine {
			t.Fatalf("%q ends with %d", args, code)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lines, into := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code := gatehouse(ctx, into, "audit", "--follow", "--output", "json")
		_ = into.Close()
		done <- code
	}()
	scanner := bufio.NewScanner(lines)
	next := func() string {
		t.Helper()
		var v recordView
		if !scanner.Scan() || json.Unmarshal(scanner.Bytes(), &v) != nil {
			t.Fatalf("no record but %q, %v", scanner.Bytes(), scanner.Err())
		}
		return v.Event
	}
	if got := next(); got != "company.created" {
		t.Errorf("first %s", got)
	}
	for _, args := range [][]string{{"user", "create", "ada@example.com", "--no-password"}, {"user", "disable", "ada@example.com"}} {
		if code := gatehouse(t.Context(), io.Discard, args...); code != exitFine {
			t.Fatalf("%q ends with %d", args, code)
		}
	}
	if one, two := next(), next(); one != "user.created" || two != "user.disabled" {
		t.Errorf("then %s and %s", one, two)
	}
	cancel()
	if code := <-done; code != exitFine {
		t.Errorf("it ends with %d", code)
	}
	if scanner.Scan() {
		t.Errorf("something was told twice: %s", scanner.Bytes())
	}
}
