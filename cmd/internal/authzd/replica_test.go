package authzd

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

func TestWhatIsConfirmedIsEnforced(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	g := newGate(t, url)
	store, err := postgres.Open(t.Context(), postgres.Options{URL: url, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	confirm := func() []postgres.Replica {
		got, err := store.Confirm(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return got.Confirmed
	}
	g.until("the replica is known", func() bool { return len(confirm()) == 1 })
	if name := confirm()[0].Name; !strings.HasSuffix(name, fmt.Sprintf(":%d", os.Getpid())) {
		t.Errorf("it is called %q, want its process in it", name)
	}
	user := newUser(g)
	for round := range 50 {
		active := round%2 == 1
		if _, err := store.SetActive(t.Context(), user, active); err != nil {
			t.Fatal(err)
		}
		if len(confirm()) != 1 {
			t.Fatal("not confirmed")
		}
		if s, remembered := g.cache.Peek(user, identity.SessionID{}, identity.CompanyID{}, time.Now()); remembered && s.Active != active {
			t.Fatalf("round %d: what is remembered is older than what was confirmed", round)
		}
		if s, err := g.ask(user); err != nil || s.Active != active { // and remembers it for the next round
			t.Fatalf("round %d: active %t, %v", round, s.Active, err)
		}
	}
}
