package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/atenex/gatehouse/tests/bench/report"
)

// plan is everything that bounds a run.
type plan struct {
	out        string
	reportOnly bool
	only       parts
	rivals     string // comma-separated names; empty: all

	authzProcs   int
	envoyWorkers int

	connections int
	rounds      int // pairs of rounds of a comparison that a bar is about
	round       time.Duration
	warmUp      time.Duration
	pacedRounds int
	paced       time.Duration
	perSecond   int
	few, many   int

	replicas    int
	revocations int
	load        int // requests/s beside the revocations

	benchtime time.Duration
}

// parts of a run, by name; empty: all.
type parts map[string]bool

func (p parts) String() string { return "" }

// Set takes a comma-separated list.
func (p parts) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		if !slices.Contains(everyPart(), name) {
			return fmt.Errorf("%q is none of %s", name, strings.Join(everyPart(), ", "))
		}
		p[name] = true
	}
	return nil
}

func (p parts) has(name string) bool { return len(p) == 0 || p[name] }

func everyPart() []string { return []string{report.InProcess, report.Compare, report.Revocation} }

// list is the parts that are to run.
func (p parts) list() (names []string) {
	for _, name := range everyPart() {
		if p.has(name) {
			names = append(names, name)
		}
	}
	return names
}

// readPlan reads the command line. The defaults are those of the committed
// results, and take 7 to 9 minutes.
func readPlan(args []string, stderr io.Writer) (plan, error) {
	p := plan{only: parts{}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	quick := flags.Bool("quick", false, "a minute or two to see that everything works; its figures say nothing, and are only printed")
	flags.StringVar(&p.out, "out", "bench", "write RESULTS.md and results.json into `DIR`; empty: nowhere")
	flags.StringVar(&p.rivals, "rivals", "", "comma-separated `NAMES` of those to hold against the no-op; empty: all")
	flags.BoolVar(&p.reportOnly, "report-only", false, "exit 0 although a bar is missed")
	flags.Var(p.only, "only", "comma-separated `PARTS` to run: micro, compare, revocation")
	flags.IntVar(&p.authzProcs, "authz-procs", recommendedProcs(), "GOMAXPROCS of authz, as recommended where it shares the machine with Envoy; 0: not set")
	flags.IntVar(&p.envoyWorkers, "envoy-workers", 0, "Envoy's --concurrency; 0: its default, one for each CPU")
	flags.IntVar(&p.connections, "connections", 32, "of the closed loop")
	flags.IntVar(&p.rounds, "rounds", 6, "`PAIRS` of rounds of a comparison with a bar (others: two thirds)")
	flags.DurationVar(&p.round, "round", 2500*time.Millisecond, "measured time of a round of the closed loop")
	flags.DurationVar(&p.warmUp, "warm-up", 500*time.Millisecond, "before the measured time of each round")
	flags.IntVar(&p.pacedRounds, "paced-rounds", 6, "`PAIRS` of rounds at the fixed rate (others: two thirds)")
	flags.DurationVar(&p.paced, "paced", 3*time.Second, "measured time of a round at the fixed rate")
	flags.IntVar(&p.perSecond, "rate", 1000, "requests/s at the fixed rate")
	flags.IntVar(&p.few, "warm-users", 200, "users that are warm")
	flags.IntVar(&p.many, "cold-users", 400_000, "users that are asked for once")
	flags.IntVar(&p.replicas, "replicas", 3, "of authz, for the revocations")
	flags.IntVar(&p.revocations, "revocations", 500, "rounds of revocation")
	flags.IntVar(&p.load, "revocation-load", 500, "other requests/s beside them")
	flags.DurationVar(&p.benchtime, "benchtime", time.Second, "of each benchmark in process")
	if err := flags.Parse(args); err != nil {
		return plan{}, err
	}
	if flags.NArg() > 0 {
		return plan{}, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if *quick {
		p.hurry(flags)
	}
	return p, p.check()
}

// hurry shortens what was not asked for in so many words.
func (p *plan) hurry(flags *flag.FlagSet) {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	short := func(name string, set func()) {
		if !given[name] {
			set()
		}
	}
	short("out", func() { p.out = "" })
	short("report-only", func() { p.reportOnly = true })
	short("rounds", func() { p.rounds = 2 })
	short("round", func() { p.round = 500 * time.Millisecond })
	short("warm-up", func() { p.warmUp = 200 * time.Millisecond })
	short("paced-rounds", func() { p.pacedRounds = 2 })
	short("paced", func() { p.paced = 500 * time.Millisecond })
	short("cold-users", func() { p.many = 60_000 })
	short("revocations", func() { p.revocations = 25 })
	short("benchtime", func() { p.benchtime = 100 * time.Millisecond })
}

// recommendedProcs is what README recommends for authz on a machine that it shares
// with Envoy: half of the CPUs. Threads of the one that wait for the other's are
// only in its way.
func recommendedProcs() int { return max(1, runtime.NumCPU()/2) }

func (p plan) check() error {
	var faults []error
	atLeast := func(what string, n, least, most int) {
		if n < least || n > most {
			faults = append(faults, fmt.Errorf("-%s %d: want %d to %d", what, n, least, most))
		}
	}
	lasts := func(what string, d, least time.Duration) {
		if d < least || d > time.Minute {
			faults = append(faults, fmt.Errorf("-%s %v: want %v to %v", what, d, least, time.Minute))
		}
	}
	atLeast("authz-procs", p.authzProcs, 0, 1024)
	atLeast("envoy-workers", p.envoyWorkers, 0, 1024)
	atLeast("connections", p.connections, 1, 1000)
	atLeast("rounds", p.rounds, 1, 100)
	atLeast("paced-rounds", p.pacedRounds, 1, 100)
	atLeast("rate", p.perSecond, 10, 100_000)
	atLeast("warm-users", p.few, 10, 10_000)
	atLeast("cold-users", p.many, 1000, 5_000_000)
	atLeast("replicas", p.replicas, 1, 10)
	atLeast("revocations", p.revocations, 1, 100_000)
	atLeast("revocation-load", p.load, 3, 100_000)
	lasts("round", p.round, 50*time.Millisecond)
	lasts("paced", p.paced, 50*time.Millisecond)
	lasts("warm-up", p.warmUp, 10*time.Millisecond)
	lasts("benchtime", p.benchtime, time.Millisecond)
	return errors.Join(faults...)
}

// fewer is the number of rounds of a comparison that no bar is about.
func fewer(n int) int { return max(1, n*2/3) }
