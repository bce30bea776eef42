package authzd

import (
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/atenex/gatehouse/internal/config"
)

const (
	// usualGC is what the runtime does unless GOGC says otherwise.
	usualGC = 100
	// rarelyGC collects a quarter as often. A check leaves a kilobyte behind, so
	// that this is worth 8 % of all checks, and costs memory, which is bounded
	// below.
	rarelyGC = 400
	// besides is the memory for everything but what is remembered.
	besides = 512 << 20
	// leastCache is the smallest bound that a cache takes.
	leastCache = 1 << 20
)

// memory is how much may be remembered, in bytes.
type memory struct{ users, tokens int64 }

// fitMemory sets the pace of the garbage collector and bounds the memory that it
// works in: to GOMEMLIMIT, or to nine tenths of what the process's control group
// allows, and in any case to what is remembered and half a gigabyte. A GOGC and a
// GOMEMLIMIT win where they are set to something else than the runtime's defaults
// (100 and off), which cannot be told from nothing.
//
// Where there is little memory, less is remembered than the settings say: half of
// it for users, an eighth for tokens. That costs reads; to be killed would cost
// everything.
func fitMemory(a config.Activity, log *slog.Logger) memory {
	m := memory{users: int64(a.Bytes), tokens: int64(a.TokenBytes)}
	limit := debug.SetMemoryLimit(-1)
	given := limit != math.MaxInt64
	if !given {
		switch group, err := memlimit.FromCgroup(); {
		case err == nil && group < math.MaxInt64:
			limit = int64(group / 10 * 9)
		case err != nil && !errors.Is(err, memlimit.ErrNoLimit) && !errors.Is(err, memlimit.ErrNoCgroup) && !errors.Is(err, memlimit.ErrCgroupsNotSupported):
			log.Warn("the memory limit of the control group cannot be read", "error", err)
		}
	}
	fit := memory{
		users:  max(leastCache, min(m.users, limit/2)),
		tokens: max(leastCache, min(m.tokens, limit/8)),
	}
	if fit != m {
		log.Warn("there is little memory: less is remembered than the settings say",
			"limit_bytes", limit, "users_bytes", fit.users, "tokens_bytes", fit.tokens)
	}
	if !given {
		debug.SetMemoryLimit(min(limit, fit.users+fit.tokens+besides))
	}
	if paceGC() == usualGC {
		debug.SetGCPercent(rarelyGC)
	}
	return fit
}

func paceGC() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0 // a later Go without this figure: leave it alone
	}
	return sample[0].Value.Uint64()
}
