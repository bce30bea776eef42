package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/atenex/gatehouse/tests/bench/figures"
)

// Markdown is the report to read.
func (r *Report) Markdown() string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("# Benchmark\n")
	p("Written by `%s`; do not edit. Every ratio is a contender's figure divided by that of a no-op ext_authz", r.Command)
	p("(always OK, grpc-go and ext_authz on their defaults) measured right before or after it, behind the same")
	p("Envoy process. Ratios carry over to other machines; times and rates do not. Raw figures: [results.json](results.json).\n")
	r.setting(p)
	r.bars(p)
	r.comparisons(p)
	r.revocation(p)
	r.inProcess(p)
	r.context(p)
	if len(r.Skipped) > 0 {
		p("## Left out\n")
		for _, s := range r.Skipped {
			p("- %s", s)
		}
		p("")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

type printer func(format string, a ...any)

func (r *Report) setting(p printer) {
	m := r.Machine
	p("| | |\n|---|---|")
	p("| command | `%s` |", r.Command)
	p("| date, commit | %s, `%s` |", r.Date.UTC().Format("2006-01-02 15:04 MST"), r.Commit)
	p("| machine | %d × %s, %d MB, %s, Linux %s, load %s before the start |", m.CPUs, m.Model, m.MemoryMB, m.Arch, m.Kernel, m.Load1)
	p("| versions | %s, Envoy %s, PostgreSQL %s |", m.Go, r.Envoy, r.PostgreSQL)
	for _, f := range r.Facts {
		p("| %s | %s |", f[0], f[1])
	}
	p("| took | %s |\n", r.Took)
}

func (r *Report) bars(p printer) {
	p("## Bars\n")
	p("| | bar | measured | |\n|---|---|---|---|")
	for _, b := range r.Bars {
		met := "met"
		if !b.Met() {
			met = "**missed**"
		}
		p("| %s | %s | %s | %s |", b.What, b.Bound(), b.Outcome(), met)
	}
	p("")
}

func (r *Report) comparisons(p printer) {
	if len(r.Comparisons) == 0 {
		return
	}
	p("## Against the no-op\n")
	p("The median of paired ratios, and in brackets the least and the most. In the second column, what the throughput would")
	p("be if the authorisation server took no CPU time at all, and Envoy, load and database what they took.\n")
	p("| | throughput | … of a server that takes nothing | auth CPU per check | Envoy's CPU per request | p50 at the fixed rate | p99 | PostgreSQL, µs CPU per check |\n|---|---|---|---|---|---|---|---|")
	for _, c := range r.Comparisons {
		postgres := "–"
		if len(c.PostgresCPU.All) > 0 {
			postgres = fmt.Sprintf("%.0f", c.PostgresCPU.Median)
		}
		p("| %s | %s | %s | %s | %s | %s | %s | %s |", c.Title, spread(c.Throughput), spread(c.Free), spread(c.AuthCPU), spread(c.EnvoyCPU), spread(c.P50), spread(c.P99), postgres)
	}
	p("")
}

func spread(s figures.Spread) string {
	if len(s.All) == 0 || s.Most == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Least, s.Most)
}

func (r *Report) revocation(p printer) {
	v := r.Revocation
	if v == nil {
		return
	}
	p("## Revocation\n")
	p("%d rounds: one user's access is taken away with plain SQL while every one of %d replicas is asked as that user", v.Rounds, v.Replicas)
	p("through Envoy (%d probes), beside %d other requests/s. Milliseconds from the acknowledged commit to the arrival of the", v.Probes, v.PerSecond)
	p("first refusal. No request that was sent after a replica's first refusal, or past the documented bound, was let in;")
	p("the run ends with an error otherwise.\n")
	p("| | rounds | p50 | p90 | p99 | most |\n|---|---|---|---|---|---|")
	p("| **last replica** | %s |", lags(v.Last))
	for _, name := range slices.Sorted(maps.Keys(v.ByAct)) {
		p("| … %s | %s |", name, lags(v.ByAct[name]))
	}
	for i, d := range v.Each {
		p("| replica %d | %s |", i+1, lags(d))
	}
	p("| (latency of the other requests) | %s |\n", lags(v.Background))
}

func lags(d figures.Distribution) string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", milliseconds(d)) }
	return fmt.Sprintf("%d | %s | %s | %s | %s", d.Count, ms(d.P50), ms(d.P90), ms(d.P99), ms(d.Max))
}

func (r *Report) inProcess(p printer) {
	if len(r.Micro) == 0 {
		return
	}
	p("## In process\n")
	p("| benchmark | figures |\n|---|---|")
	for _, m := range r.Micro {
		var all []string
		for _, unit := range slices.Sorted(maps.Keys(m.Figures)) {
			all = append(all, fmt.Sprintf("%.6g %s", m.Figures[unit], unit))
		}
		p("| %s `Benchmark%s` | %s |", m.Package, m.Name, strings.Join(all, ", "))
	}
	p("")
}

// context is the absolute figures, of no use on another machine.
func (r *Report) context(p printer) {
	if len(r.Comparisons) == 0 {
		return
	}
	p("## Absolute figures of this machine in this hour\n")
	p("Medians; not to be compared between runs.\n")
	p("| | requests/s | auth CPU, µs | Envoy's, µs | load and upstream, µs | p50, ms | p99, ms | sent late at p99, ms |\n|---|---|---|---|---|---|---|---|")
	for _, c := range r.Comparisons {
		row(p, "no-op, beside: "+c.Title, c, func(x Pair) Round { return x.Noop })
		row(p, c.Title, c, func(x Pair) Round { return x.Rival })
	}
	p("")
}

func row(p printer, title string, c Comparison, of func(Pair) Round) {
	middle := func(pairs []Pair, figure func(Round) float64, format string) string {
		var all []float64
		for _, x := range pairs {
			all = append(all, figure(of(x)))
		}
		if len(all) == 0 {
			return "–"
		}
		return fmt.Sprintf(format, figures.Summarise(all).Median)
	}
	p("| %s | %s | %s | %s | %s | %s | %s | %s |", title,
		middle(c.Closed, Round.perSecond, "%.0f"),
		middle(c.Closed, func(r Round) float64 { return r.each(r.AuthCPU) }, "%.1f"),
		middle(c.Closed, func(r Round) float64 { return r.each(r.EnvoyCPU) }, "%.1f"),
		middle(c.Closed, func(r Round) float64 { return r.each(r.LoadCPU) }, "%.1f"),
		middle(c.Paced, func(r Round) float64 { return milliseconds(r.Latency.P50) }, "%.3f"),
		middle(c.Paced, func(r Round) float64 { return milliseconds(r.Latency.P99) }, "%.3f"),
		middle(c.Paced, func(r Round) float64 { return milliseconds(r.Late.P99) }, "%.3f"))
}
