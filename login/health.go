package login

import (
	"context"
	"net/http"
	"time"
)

// pingTime is how long the database may take to prove that it is there.
const pingTime = time.Second

type healthy struct {
	Status  string            `json:"status"`
	Service string            `json:"service"`
	Checks  map[string]string `json:"checks"`
}

// health is GET /health. Anybody may ask it, so that those who ask at the same
// moment share one ping: a crowd at this door must not take the database's
// connections from those who log in.
func (s *Service) health(ctx context.Context, _ *exchange) (answer, error) {
	// One who hangs up must not fail the ping of the others.
	shared := context.WithoutCancel(ctx)
	_, err, _ := s.pings.Do("ping", func() (any, error) {
		ctx, cancel := context.WithTimeout(shared, pingTime)
		defer cancel()
		return nil, s.with.Database.Ping(ctx)
	})
	if err != nil {
		a := s.report(http.StatusServiceUnavailable, "unhealthy", "failed")
		a.cause = err
		return a, nil //nolint:nilerr // the failed ping is what is reported
	}
	return s.report(http.StatusOK, "healthy", "ok"), nil
}

func (s *Service) report(status int, state, database string) answer {
	return answer{status: status, result: state, body: healthy{
		Status:  state,
		Service: s.with.ProjectName,
		Checks:  map[string]string{"database_connection": database},
	}}
}
