package activity_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/atenex/gatehouse/internal/identity"
)

// Of two reads under way at a time, the one that began first may bring home the
// newer answer or the older one; so there is only one.
func TestAQuestionIsNotReadTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		running, reads := 0, 0
		store := storeFunc(func(_ context.Context, q []identity.Question) ([]identity.Standing, error) {
			if running++; running > 1 {
				t.Error("two reads of one question at a time")
			}
			defer func() { running-- }()
			s := active(q[0])
			if reads++; reads == 1 {
				<-slow // read before the commit, and late
			} else {
				s.Active = false // read after the commit, whose notice is still under way
			}
			return []identity.Standing{s}, nil
		})
		f := newCache(t, store)
		f.heard()
		var first, second bool
		go func() { first = f.standing(1, 0, 1).Active }()
		synctest.Wait()
		go func() { second = f.standing(1, 0, 1).Active }()
		synctest.Wait()
		close(slow)
		synctest.Wait()
		if !first || second || reads != 2 {
			t.Errorf("the answers are %v and %v by %d reads, want one from before the commit and one from after it", first, second, reads)
		}
		if f.standing(1, 0, 1).Active {
			t.Error("after its first refusal, the replica lets the user in from what an older read brought")
		}
	})
}
