package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

func TestAQuestionIsASpanByNameAndNothingOfIt(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	ctx := testContext(t)
	if _, err := postgres.Migrate(ctx, url, postgres.MigrateOptions{}); err != nil {
		t.Fatal(err)
	}
	kept := tracetest.NewSpanRecorder()
	store, err := postgres.Open(ctx, postgres.Options{
		URL: url, MaxConns: 2, Tracer: sdk.NewTracerProvider(sdk.WithSpanProcessor(kept)).Tracer("test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)

	const email = "my-own-password@example.com"
	if _, err := store.CreateUser(ctx, identity.Account{User: identity.User{Email: email}, PasswordHash: "hidden-hash"}); err != nil {
		t.Fatal(err)
	}
	_, _ = store.CreateUser(ctx, identity.Account{User: identity.User{Email: email}}) // taken: an answer like any other
	if _, err := store.AccountByEmail(ctx, email); err != nil {
		t.Fatal(err)
	}
	store.Close()
	if _, err := store.AccountByEmail(ctx, email); err == nil {
		t.Fatal("a closed store answers")
	}

	want := []string{"postgres create_user Unset", "postgres create_user Unset", "postgres account_by_email Unset", "postgres account_by_email Error"}
	var got []string
	for i, s := range kept.Ended() {
		got = append(got, s.Name()+" "+s.Status().Code.String())
		text := fmt.Sprint(s.Name(), s.Attributes(), s.Events(), s.Status())
		for _, secret := range []string{email, "hidden-hash", "INSERT INTO", "select", "users_"} {
			if strings.Contains(text, secret) {
				t.Errorf("a span holds %q: %s", secret, text)
			}
		}
		var events []string
		for _, e := range s.Events() {
			events = append(events, e.Name)
		}
		if i < 3 && !strings.Contains(strings.Join(events, ", "), "connection acquired") {
			t.Errorf("%s does not say when it had a connection: %q", s.Name(), events)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("spans %q, want %q", got, want)
	}
}
