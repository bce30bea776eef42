package report

import (
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/tests/bench/figures"
	"github.com/atenex/gatehouse/tests/bench/micro"
	"github.com/atenex/gatehouse/tests/bench/revocation"
)

// pairs are rounds of a second in which the rival does so many times what the
// no-op does, at such a share of its CPU time per check and of its latency.
func pairs(throughput, cpu, latency float64) (closed, paced []Pair) {
	round := func(answers, eachCPU, latency float64) Round {
		return Round{
			Answers: int64(answers), Time: time.Second, AuthCPU: time.Duration(answers * eachCPU * 1000),
			Latency: &figures.Distribution{P50: time.Duration(latency * 1e6), P99: time.Duration(latency * 2e6)},
			Late:    &figures.Distribution{},
		}
	}
	p := []Pair{{Noop: round(10_000, 70, 1), Rival: round(10_000*throughput, 70*cpu, latency)}}
	return p, p
}

func passing() *Report {
	r := &Report{
		Parts: []string{InProcess, Compare, Revocation},
		Micro: []micro.Benchmark{
			{Name: "WarmCheck", Figures: map[string]float64{"ns/op": 700, "allocs/op": 0}},
			{Name: "ColdTokenCheck/fast_path", Figures: map[string]float64{"ns/op": 7000}},
			{Name: "GolangJWT", Figures: map[string]float64{"ns/op": 5840}},
			{Name: "GolangJWT", Figures: map[string]float64{"ns/op": 9000}}, // something else was running
			{Name: "MillionUsers", Figures: map[string]float64{"MB-counted": 200, "MB-heap": 250}},
		},
		Revocation: &revocation.Result{Last: figures.Distribution{P99: 20 * time.Millisecond}},
	}
	for _, name := range []string{Warm, NoTokenCache, Cold} {
		c := Comparison{Name: name, Title: name}
		c.Closed, c.Paced = pairs(1.4, 0.4, 0.9)
		c.Summarise()
		r.Comparisons = append(r.Comparisons, c)
	}
	return r
}

func TestBars(t *testing.T) {
	set := func(r *Report, name string, throughput, cpu, latency float64) {
		c := r.Find(name)
		c.Closed, c.Paced = pairs(throughput, cpu, latency)
		c.Summarise()
	}
	tests := []struct {
		name  string
		spoil func(*Report)
		want  string // the bars that are missed
	}{
		{"all is well", func(*Report) {}, ""},
		{"exactly at the bar", func(r *Report) { r.Revocation.Last.P99 = 50 * time.Millisecond }, ""},
		{"too slow warm", func(r *Report) { set(r, Warm, 1.34, 0.4, 0.9) }, "throughput, warm"},
		{"too costly warm", func(r *Report) { set(r, Warm, 1.4, 0.49, 0.9) }, "auth CPU per check, warm"},
		{"late warm", func(r *Report) { set(r, Warm, 1.4, 0.4, 1.01) }, "p50 at the fixed rate, warm"},
		{"very late warm", func(r *Report) { set(r, Warm, 1.4, 0.4, 1.21) }, "p50 at the fixed rate, warm; p99 at the fixed rate, warm"},
		{"slow without the cache of tokens", func(r *Report) { set(r, NoTokenCache, 0.99, 2, 2) }, "throughput, token cache off"},
		{"slow with cold users", func(r *Report) { set(r, Cold, 0.69, 2, 2) }, "throughput, cold users"},
		{"a part that nobody asked for has no bars", func(r *Report) { r.Parts, r.Micro, r.Comparisons = []string{Revocation}, nil, nil }, ""},
		{"a slow warm check", func(r *Report) { r.Micro[0].Figures["ns/op"] = 1010 }, "a warm check in process ÷ golang-jwt's verification"},
		{"the same on a machine that is half as fast", func(r *Report) {
			r.Micro[0].Figures["ns/op"], r.Micro[1].Figures["ns/op"], r.Micro[2].Figures["ns/op"], r.Micro[3].Figures["ns/op"] = 1900, 15000, 11680, 11680
		}, ""},
		{"one allocation", func(r *Report) { r.Micro[0].Figures["allocs/op"] = 1 }, "its allocations"},
		{"a late refusal", func(r *Report) { r.Revocation.Last.P99 = 51 * time.Millisecond }, "p99 from a commit to the last replica's first refusal"},
		{
			"what was not measured is not met",
			func(r *Report) { r.Revocation, r.Micro, r.Comparisons = nil, r.Micro[4:], r.Comparisons[2:] },
			"throughput, warm; auth CPU per check, warm; throughput, token cache off; p50 at the fixed rate, warm; p99 at the fixed rate, warm; " +
				"a warm check in process ÷ golang-jwt's verification; its allocations; a check of an unseen token in process ÷ golang-jwt's verification; p99 from a commit to the last replica's first refusal",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := passing()
			tt.spoil(r)
			r.Judge()
			var missed []string
			for _, b := range r.Bars {
				if !b.Met() {
					missed = append(missed, b.What)
				}
			}
			if got := strings.Join(missed, "; "); got != tt.want {
				t.Errorf("missed: %s\nwant:   %s", got, tt.want)
			}
		})
	}
}

func TestWhatAServerThatTakesNothingWouldReach(t *testing.T) {
	took := func(auth, envoy, load, postgres time.Duration) Round {
		return Round{Answers: 10, Time: time.Second, AuthCPU: 10 * auth, EnvoyCPU: 10 * envoy, LoadCPU: 10 * load, PostgresCPU: 10 * postgres}
	}
	c := Comparison{Closed: []Pair{{Noop: took(70, 80, 20, 30), Rival: took(35, 90, 20, 50)}}}
	c.Summarise()
	// 200 of the no-op against 160 of everybody but the rival's server.
	if got := c.Free.Median; got != 1.25 {
		t.Errorf("%v, want 1.25", got)
	}
}

func TestMarkdownShowsBarsAndWhatIsMissing(t *testing.T) {
	r := passing()
	r.Comparisons = r.Comparisons[:1]
	r.Skipped = []string{"cold users: for a reason"}
	r.Judge()
	text := r.Markdown()
	for _, want := range []string{
		"| throughput, warm | ≥ 1.35 × | 1.40 × | met |",
		"| throughput, cold users | ≥ 0.70 × | not measured | **missed** |",
		"| p99 from a commit to the last replica's first refusal | ≤ 50 ms | 20 ms | met |",
		"| its allocations | ≤ 0 | 0 | met |",
		"1.40 (1.40–1.40)",
		"- cold users: for a reason",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
