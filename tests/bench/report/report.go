// Package report holds everything that a run of the benchmark found out, judges it
// by the bars, and writes it down for people and for machines. It must never know
// how anything was measured.
package report

import (
	"time"

	"github.com/atenex/gatehouse/tests/bench/figures"
	"github.com/atenex/gatehouse/tests/bench/micro"
	"github.com/atenex/gatehouse/tests/bench/proc"
	"github.com/atenex/gatehouse/tests/bench/revocation"
)

// Report is one run.
type Report struct {
	Command string    `json:"command"`
	Date    time.Time `json:"date"`
	Commit  string    `json:"commit"`
	Took    string    `json:"took"`
	// Parts are what was asked for: the bars of others are not held.
	Parts      []string     `json:"parts"`
	Machine    proc.Machine `json:"machine"`
	Envoy      string       `json:"envoy"`
	PostgreSQL string       `json:"postgresql"`
	// Facts say how it was set up, in order, for a reader.
	Facts       [][2]string        `json:"facts"`
	Comparisons []Comparison       `json:"comparisons"`
	Revocation  *revocation.Result `json:"revocation,omitempty"`
	Micro       []micro.Benchmark  `json:"micro"`
	Skipped     []string           `json:"skipped"`
	Bars        []Bar              `json:"bars"`
}

// The parts of a run.
const (
	InProcess  = "micro"
	Compare    = "compare"
	Revocation = "revocation"
)

// Comparison is one contender held against the no-op. All ratios are its figure
// divided by the no-op's in the same pair of rounds.
type Comparison struct {
	Name  string `json:"name"`
	Title string `json:"title"`

	Throughput figures.Spread `json:"throughput_ratio"`
	// AuthCPU is the CPU time of the authorisation server for each check; EnvoyCPU
	// that of Envoy. PostgresCPU is the contender's alone, in µs for each check.
	AuthCPU     figures.Spread `json:"auth_cpu_ratio"`
	EnvoyCPU    figures.Spread `json:"envoy_cpu_ratio"`
	PostgresCPU figures.Spread `json:"postgres_cpu_us"`
	// Free is the throughput ratio if the authorisation server took nothing and all
	// others what they took: on a machine that is busy to the last cycle, no server that
	// is asked like this can do better.
	Free figures.Spread `json:"throughput_ratio_free"`
	// At the fixed rate.
	P50 figures.Spread `json:"p50_ratio"`
	P99 figures.Spread `json:"p99_ratio"`

	Closed []Pair `json:"closed_loop"`
	Paced  []Pair `json:"fixed_rate"`
}

// Pair is two rounds, one right after the other.
type Pair struct {
	NoopFirst bool  `json:"noop_first"`
	Noop      Round `json:"noop"`
	Rival     Round `json:"rival"`
}

// Round is what was measured of one contender. What does not apply is zero.
type Round struct {
	Answers     int64                 `json:"answers"`
	Time        time.Duration         `json:"time_ns"`
	AuthCPU     time.Duration         `json:"auth_cpu_ns"`
	EnvoyCPU    time.Duration         `json:"envoy_cpu_ns"`
	PostgresCPU time.Duration         `json:"postgres_cpu_ns"`
	LoadCPU     time.Duration         `json:"load_cpu_ns"` // of the load and the upstream together
	Latency     *figures.Distribution `json:"latency,omitempty"`
	Late        *figures.Distribution `json:"sent_late,omitempty"`
}

// perSecond is a round's rate.
func (r Round) perSecond() float64 { return float64(r.Answers) / r.Time.Seconds() }

// each is a time's share of one answer, in µs.
func (r Round) each(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(r.Answers)
}

// others is what everybody but the authorisation server took.
func (r Round) others() time.Duration { return r.EnvoyCPU + r.LoadCPU + r.PostgresCPU }

// Summarise fills in the spreads from the pairs.
func (c *Comparison) Summarise() {
	of := func(pairs []Pair, figure func(Round) float64) figures.Spread {
		var rival, noop []float64
		for _, p := range pairs {
			rival, noop = append(rival, figure(p.Rival)), append(noop, figure(p.Noop))
		}
		return figures.Summarise(figures.Ratios(rival, noop))
	}
	c.Throughput = of(c.Closed, Round.perSecond)
	c.AuthCPU = of(c.Closed, func(r Round) float64 { return r.each(r.AuthCPU) })
	c.EnvoyCPU = of(c.Closed, func(r Round) float64 { return r.each(r.EnvoyCPU) })
	var postgres, theirs, others []float64
	for _, p := range c.Closed {
		postgres = append(postgres, p.Rival.each(p.Rival.PostgresCPU))
		theirs, others = append(theirs, p.Noop.each(p.Noop.AuthCPU+p.Noop.others())), append(others, p.Rival.each(p.Rival.others()))
	}
	c.PostgresCPU, c.Free = figures.Summarise(postgres), figures.Summarise(figures.Ratios(theirs, others))
	c.P50 = of(c.Paced, func(r Round) float64 { return float64(r.Latency.P50) })
	c.P99 = of(c.Paced, func(r Round) float64 { return float64(r.Latency.P99) })
}

// Find is the comparison of that name; nil: it was not made.
func (r *Report) Find(name string) *Comparison {
	for i := range r.Comparisons {
		if r.Comparisons[i].Name == name {
			return &r.Comparisons[i]
		}
	}
	return nil
}
