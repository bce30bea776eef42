package authzd

import (
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"github.com/atenex/gatehouse/internal/config"
)

func TestWhatIsRememberedFitsTheMemoryThatThereIs(t *testing.T) {
	const mega = 1 << 20
	cases := []struct {
		name  string
		limit int64 // GOMEMLIMIT
		set   config.Activity
		want  memory
		// the limit that the collector works to then
		wantLimit int64
	}{
		{"as the settings say", 4096 * mega, config.Activity{Bytes: 256 * mega, TokenBytes: 64 * mega}, memory{256 * mega, 64 * mega}, 4096 * mega},
		{"half and an eighth where there is little", 256 * mega, config.Activity{Bytes: 256 * mega, TokenBytes: 64 * mega}, memory{128 * mega, 32 * mega}, 256 * mega},
		{"never less than a cache takes", 4 * mega, config.Activity{Bytes: 256 * mega, TokenBytes: 64 * mega}, memory{2 * mega, mega}, 4 * mega},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			limit, pace := debug.SetMemoryLimit(c.limit), debug.SetGCPercent(50)
			defer func() {
				debug.SetMemoryLimit(limit)
				debug.SetGCPercent(pace)
			}()
			if got := fitMemory(c.set, slog.New(slog.DiscardHandler)); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if got := debug.SetMemoryLimit(-1); got != c.wantLimit {
				t.Errorf("the collector's limit is %d, want %d", got, c.wantLimit)
			}
			if got := paceGC(); got != 50 {
				t.Errorf("GOGC was given as 50 and is %d", got)
			}
		})
	}
}

func TestWithoutALimitTheHeapIsBoundedByWhatIsRemembered(t *testing.T) {
	limit, pace := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(usualGC)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(pace)
	}()
	m := fitMemory(config.Activity{Bytes: 8 << 20, TokenBytes: 1 << 20}, slog.New(slog.DiscardHandler))
	if got, most := debug.SetMemoryLimit(-1), m.users+m.tokens+besides; got > most {
		t.Errorf("the collector's limit is %d, want %d at most", got, most)
	}
	if got := paceGC(); got != rarelyGC {
		t.Errorf("GOGC is %d, want %d", got, rarelyGC)
	}
}
