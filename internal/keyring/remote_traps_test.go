package keyring_test

import (
	"testing"
	"time"
)

// An issuer's first token of a new key may come before the key does, through whatever
// caches what is published; and somebody may have asked for a name that is easy to guess
// before. Neither keeps the key out for long.
func TestAKeyThatIsPublishedLaterThanItSignsIsTakenAllTheSame(t *testing.T) {
	i := newIssuer(t, "one")
	o := i.options(t)
	o.Timing = quick // the clock asks in an hour
	o.Timing.Budget, o.Timing.Absent = time.Nanosecond, 20*time.Millisecond
	ring, _, _ := run(t, o)
	settled(t, ring)
	eventually(t, "it was looked for, and not there", func() bool {
		ring.Await("two")
		return i.asked.Load() >= 2
	})
	i.publish(t, "one", "two")
	eventually(t, "it is taken", func() bool {
		ring.Await("two")
		return kids(ring) == "one two"
	})
}
