package postgres_test

import (
	"net"
	"strings"
	"testing"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/postgres"
)

// With sslmode=prefer, the default, pgx tries each host twice, and says so twice.
func TestAServerThatIsNotThereIsSaidOnce(t *testing.T) {
	t.Parallel()
	hosts := make([]string, 2)
	for i := range hosts {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = l.Addr().String()
		_ = l.Close()
	}
	for _, c := range []struct {
		name, hosts string
		want        int
	}{
		{"one host", hosts[0], 1},
		{"two hosts", strings.Join(hosts, ","), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := "postgres://someone:test-secret@" + c.hosts + "/nothing"
			store, err := postgres.Open(testContext(t), postgres.Options{URL: url, MaxConns: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			_, standing := store.Standing(testContext(t), userID(1), sessionID(1), identity.CompanyID{})
			_, join := store.Join(testContext(t), identity.JoinRequest{User: userID(1), Admit: admitAll})
			_, status := postgres.Status(testContext(t), url)
			heard := listen(t, url)
			eventually(t, "the loss is told", func() bool { return heard.reasons() != "" })
			for name, text := range map[string]string{
				"ping": store.Ping(testContext(t)).Error(), "standing": standing.Error(), "join": join.Error(), "status": status.Error(),
				"listener": strings.Split(heard.reasons(), "; connecting")[0],
			} {
				if got := strings.Count(text, "connection refused"); got != c.want || strings.ContainsAny(text, "\n\t") || strings.Contains(text, "test-secret") {
					t.Errorf("%s: refused %d times, want %d: %q", name, got, c.want, text)
				}
			}
		})
	}
}
