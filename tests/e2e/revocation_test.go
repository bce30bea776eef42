package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// forgotten is the most that a change may take before this test fails;
// how fast it is in truth, a benchmark has to say.
const forgotten = 2 * time.Second

// TestRevocationIsHeard disables users with plain SQL while their answers are
// in memory: the refusal comes without anybody restarting anything, and nothing
// passes after it until the user is let in again.
func TestRevocationIsHeard(t *testing.T) {
	t.Parallel()
	s := startStackWithoutLogin(t, nil)
	u := s.newMember()
	good := bearer(token(t, claimsOf(u)))
	for round := range 25 {
		eventually(t, "the user is let in", func() error { return s.get(strictRoute, good).is(http.StatusOK) })
		s.get(strictRoute, good).expect(t, accepted) // warm
		s.row(`UPDATE users SET is_active = false WHERE id = $1::uuid`, u.id)
		since := stopwatch()
		for {
			a := s.get(strictRoute, good)
			if a.err != nil {
				t.Fatal(a.err)
			}
			if a.status == http.StatusUnauthorized {
				break
			}
			if overdue(since, forgotten) {
				t.Fatalf("round %d: still let in after %v", round, forgotten)
			}
		}
		for range 5 {
			if err := s.get(strictRoute, good).is(http.StatusUnauthorized); err != nil {
				t.Fatal(fmt.Errorf("round %d: after the first refusal: %w", round, err))
			}
		}
		s.row(`UPDATE users SET is_active = true WHERE id = $1::uuid`, u.id)
	}
}
