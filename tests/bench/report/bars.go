package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/atenex/gatehouse/tests/bench/figures"
	"github.com/atenex/gatehouse/tests/bench/micro"
)

// Names of the comparisons that bars are about.
const (
	Warm         = "warm"
	NoTokenCache = "no-token-cache"
	Cold         = "cold"
)

// Bar is what was promised and what came of it.
type Bar struct {
	What     string  `json:"what"`
	AtLeast  bool    `json:"at_least"` // else at most
	Limit    float64 `json:"limit"`
	Unit     string  `json:"unit"`
	Measured bool    `json:"measured"` // false: it was not, and so it is not met
	Value    float64 `json:"value"`
}

// Met reports whether the promise was kept.
func (b Bar) Met() bool {
	switch {
	case !b.Measured:
		return false
	case b.AtLeast:
		return b.Value >= b.Limit
	default:
		return b.Value <= b.Limit
	}
}

// Bound is the promise in words.
func (b Bar) Bound() string {
	sign := "≤"
	if b.AtLeast {
		sign = "≥"
	}
	return fmt.Sprintf("%s %s", sign, figure(b.Limit, b.Unit))
}

// Outcome is what was measured, in words.
func (b Bar) Outcome() string {
	if !b.Measured {
		return "not measured"
	}
	return figure(b.Value, b.Unit)
}

func figure(v float64, unit string) string {
	switch unit {
	case "×":
		return fmt.Sprintf("%.2f ×", v)
	case "":
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.4g %s", v, unit)
	}
}

// Judge holds the run against every bar of its parts.
func (r *Report) Judge() {
	ratio := func(what, name string, atLeast bool, limit float64, of func(*Comparison) figures.Spread) Bar {
		b := Bar{What: what, AtLeast: atLeast, Limit: limit, Unit: "×"}
		if c := r.Find(name); c != nil {
			if s := of(c); len(s.All) > 0 {
				b.Measured, b.Value = true, s.Median
			}
		}
		return b
	}
	inProcess := func(what, benchmark, from string, scale, limit float64, unit string) Bar {
		b := Bar{What: what, Limit: limit, Unit: unit}
		b.Value, b.Measured = micro.Worst(r.Micro, benchmark, from)
		b.Value *= scale
		return b
	}
	// Times in process are held against what golang-jwt takes to verify the same
	// token in the same run: 1 µs and 8 µs where that takes 5.84 µs.
	times := func(what, benchmark string, limit float64) Bar {
		b := Bar{What: what + " ÷ golang-jwt's verification", Limit: limit / 5.84, Unit: "×"}
		ours, measured := micro.Least(r.Micro, benchmark, "ns/op")
		theirs, compared := micro.Least(r.Micro, "GolangJWT", "ns/op")
		if b.Measured = measured && compared; b.Measured {
			b.Value = ours / theirs
		}
		return b
	}
	throughput := func(c *Comparison) figures.Spread { return c.Throughput }
	r.Bars = nil
	if slices.Contains(r.Parts, Compare) {
		r.Bars = append(r.Bars,
			ratio("throughput, warm", Warm, true, 1.35, throughput),
			ratio("auth CPU per check, warm", Warm, false, 0.48, func(c *Comparison) figures.Spread { return c.AuthCPU }),
			ratio("throughput, token cache off", NoTokenCache, true, 1.0, throughput),
			ratio("throughput, cold users", Cold, true, 0.7, throughput),
			ratio("p50 at the fixed rate, warm", Warm, false, 1.0, func(c *Comparison) figures.Spread { return c.P50 }),
			ratio("p99 at the fixed rate, warm", Warm, false, 1.2, func(c *Comparison) figures.Spread { return c.P99 }),
		)
	}
	if slices.Contains(r.Parts, InProcess) {
		r.Bars = append(r.Bars,
			times("a warm check in process", "WarmCheck", 1),
			inProcess("its allocations", "WarmCheck", "allocs/op", 1, 0, ""),
			times("a check of an unseen token in process", "ColdTokenCheck/fast_path", 8),
			inProcess("1,000,000 users, counted", "MillionUsers", "MB-counted", 1, 300, "MB"),
			inProcess("1,000,000 users, of the heap", "MillionUsers", "MB-heap", 1, 300, "MB"),
		)
	}
	if slices.Contains(r.Parts, Revocation) {
		r.Bars = append(r.Bars, r.revocationBar())
	}
}

func (r *Report) revocationBar() Bar {
	b := Bar{What: "p99 from a commit to the last replica's first refusal", Limit: 50, Unit: "ms"}
	if r.Revocation != nil {
		b.Measured, b.Value = true, milliseconds(r.Revocation.Last.P99)
	}
	return b
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
