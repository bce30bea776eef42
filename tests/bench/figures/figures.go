// Package figures is the little statistics that the benchmark needs: medians of
// paired ratios with their spread, and quantiles of latencies. It must never know
// what was measured.
package figures

import (
	"math"
	"slices"
	"time"
)

// Spread is the middle of some figures and how far they lie apart.
type Spread struct {
	Median float64   `json:"median"`
	Least  float64   `json:"least"`
	Most   float64   `json:"most"`
	All    []float64 `json:"all"` // in the order they were measured
}

// Summarise of nothing is the zero Spread.
func Summarise(all []float64) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(all))
	return Spread{
		Median: median(sorted),
		Least:  sorted[0],
		Most:   sorted[len(sorted)-1],
		All:    slices.Clone(all),
	}
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Ratios divides pair by pair: what drifts over minutes (another tenant of the
// machine, its clock) drifts for both of a pair.
func Ratios(dividends, divisors []float64) []float64 {
	out := make([]float64, 0, len(dividends))
	for i := range min(len(dividends), len(divisors)) {
		if divisors[i] != 0 {
			out = append(out, dividends[i]/divisors[i])
		}
	}
	return out
}

// Distribution is what is reported of many latencies.
type Distribution struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Distribute sorts what it is given.
func Distribute(all []time.Duration) Distribution {
	if len(all) == 0 {
		return Distribution{}
	}
	slices.Sort(all)
	return Distribution{
		Count: len(all),
		P50:   quantile(all, 0.50),
		P90:   quantile(all, 0.90),
		P99:   quantile(all, 0.99),
		Max:   all[len(all)-1],
	}
}

// quantile is the smallest value that at least this share of all does not
// exceed (the nearest rank): one that was measured, never one in between.
func quantile(sorted []time.Duration, share float64) time.Duration {
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
