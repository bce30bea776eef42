package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/atenex/gatehouse/tests/bench/edge"
	"github.com/atenex/gatehouse/tests/bench/load"
	"github.com/atenex/gatehouse/tests/bench/micro"
	"github.com/atenex/gatehouse/tests/bench/proc"
	"github.com/atenex/gatehouse/tests/bench/report"
	"github.com/atenex/gatehouse/tests/bench/revocation"
	"github.com/atenex/gatehouse/tests/bench/rig"
	"github.com/atenex/gatehouse/tests/bench/tool"
)

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p, err := readPlan(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return fine
	case err != nil:
		fmt.Fprintln(stderr, "bench:", err)
		return misuse
	}
	// The load generator allocates next to nothing while it measures, but shares
	// the machine: its collector should not run for what was made before.
	debug.SetGCPercent(400)
	start, env := time.Now(), rig.Environ(environ)
	say := func(format string, a ...any) {
		fmt.Fprintf(stderr, "%4.0fs  "+format+"\n", append([]any{time.Since(start).Seconds()}, a...)...)
	}
	r := &report.Report{
		Command: strings.TrimSpace("make bench " + bencher(args)), Date: start, Machine: proc.ReadMachine(),
		Commit: commit(ctx, env), Parts: p.only.list(),
	}
	if err := measure(ctx, p, env, r, say); err != nil {
		// What a signal interrupted failed for that.
		fmt.Fprintln(stderr, "bench:", errors.Join(err, ctx.Err()))
		return failed
	}
	r.Took = time.Since(start).Round(time.Second).String()
	r.Judge()
	fmt.Fprint(stdout, r.Markdown())
	if p.out != "" {
		if err := write(p.out, r); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return failed
		}
	}
	return verdict(p, r, stderr)
}

func bencher(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return "BENCH_FLAGS='" + strings.Join(args, " ") + "'"
}

// verdict names the bars that are missed.
func verdict(p plan, r *report.Report, stderr io.Writer) int {
	code := fine
	for _, b := range r.Bars {
		if !b.Met() {
			fmt.Fprintf(stderr, "bar missed: %s: want %s, %s\n", b.What, b.Bound(), b.Outcome())
			code = failed
		}
	}
	if p.reportOnly {
		return fine
	}
	return code
}

// measure runs the parts and fills in the report.
func measure(ctx context.Context, p plan, env map[string]string, r *report.Report, say func(string, ...any)) (err error) {
	// In process first, while nothing else of ours runs.
	if p.only.has(report.InProcess) {
		say("benchmarks in process")
		if r.Micro, err = inProcess(ctx, p, env); err != nil {
			return err
		}
	} else {
		r.Skipped = append(r.Skipped, "in process: not asked for")
	}
	if !p.only.has(report.Compare) && !p.only.has(report.Revocation) {
		return nil
	}
	ground, err := rig.Open(rig.Options{
		EnvoyBin: env["ENVOY_BIN"], PostgresBin: env["PG_BIN"], Environ: env,
		Notice: func(what string) { say("%s", what) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ground.Close()) }()
	say("building")
	if err := ground.Build(ctx); err != nil {
		return err
	}
	say("starting PostgreSQL, with %d users", p.few+p.many)
	if err := ground.Prepare(ctx); err != nil {
		return err
	}
	people, err := ground.Populate(ctx, p.few, p.many)
	if err != nil {
		return err
	}
	r.Envoy, r.PostgreSQL = ground.EnvoyVersion(), ground.PostgresVersion
	r.Facts = p.facts()
	upstream, err := load.StartUpstream(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, upstream.Close()) }()

	if p.only.has(report.Compare) {
		say("comparing")
		var skipped []string
		if r.Comparisons, skipped, err = compare(ctx, p, ground, people, upstream.Address(), say); err != nil {
			return err
		}
		r.Skipped = append(r.Skipped, skipped...)
	} else {
		r.Skipped = append(r.Skipped, "comparisons: not asked for")
	}
	if p.only.has(report.Revocation) {
		say("revoking %d times on %d replicas", p.revocations, p.replicas)
		v, err := revoke(ctx, p, ground, people, upstream.Address())
		if err != nil {
			return fmt.Errorf("revocation: %w", err)
		}
		r.Revocation = &v
		say("%-20s p50 %v, p99 %v to the last replica's first refusal", "revocation", v.Last.P50, v.Last.P99)
	} else {
		r.Skipped = append(r.Skipped, "revocation: not asked for")
	}
	return nil
}

// inProcess runs the benchmarks that bars are about. One that is not there yet
// shows as a bar that was not measured.
func inProcess(ctx context.Context, p plan, env map[string]string) ([]micro.Benchmark, error) {
	var all []micro.Benchmark
	for _, b := range []struct {
		pkg, match string
		each       time.Duration
	}{
		{"./authz", "^(BenchmarkWarmCheck|BenchmarkColdTokenCheck|BenchmarkGolangJWT)$", p.benchtime},
		{"./authz/activity", "^BenchmarkMillionUsers$", time.Millisecond}, // one run
	} {
		some, err := micro.Run(ctx, env, b.pkg, b.match, b.each)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// bound is the documented one: GATEWAY_PROOF_OF_LIFE, which has its default here.
const bound = time.Second

// revoke measures revocations on a stage of its own.
func revoke(ctx context.Context, p plan, ground *rig.Rig, people *rig.People, upstream string) (out revocation.Result, err error) {
	stage, ctx := ground.Stage(ctx)
	defer func() { err = errors.Join(err, stage.Close()) }()
	var listeners []edge.Listener
	for i := range p.replicas {
		name := fmt.Sprintf("replica-%d", i+1)
		s, err := stage.Authz(ctx, name, p.authzEnv())
		if err != nil {
			return out, err
		}
		listeners = append(listeners, edge.Listener{Name: name, Style: edge.Recommended, Authz: s.Address})
	}
	b, err := edge.Bootstrap(upstream, listeners)
	if err != nil {
		return out, err
	}
	gate, err := stage.Envoy(ctx, b, p.envoyWorkers)
	if err != nil {
		return out, err
	}
	var replicas []string
	for _, l := range listeners {
		address := gate.Listeners[l.Name]
		if err := open(ctx, address, people.Few[0].Token); err != nil {
			return out, fmt.Errorf("the listener %s: %w", l.Name, err)
		}
		replicas = append(replicas, address)
	}
	// Half of the few lose their access now and then, the others never.
	half := len(people.Few) / 2
	background := &load.Credentials{}
	for _, person := range people.Few[half:] {
		if err := background.Add(load.Credential{Token: person.Token, User: person.User.String()}); err != nil {
			return out, err
		}
	}
	return revocation.Run(ctx, revocation.Options{
		Replicas: replicas, Subjects: people.Few[:half], Database: ground.Database(), Rounds: p.revocations, Bound: bound,
		Background: background, PerSecond: p.load,
	})
}

// facts are how it was set up.
func (p plan) facts() [][2]string {
	workers := "its default, one worker for each CPU"
	if p.envoyWorkers > 0 {
		workers = fmt.Sprintf("%d workers", p.envoyWorkers)
	}
	procs := "not set"
	if p.authzProcs > 0 {
		procs = fmt.Sprint(p.authzProcs)
	}
	return [][2]string{
		{"authz", "the build of this commit, default settings, GOMAXPROCS " + procs},
		{"Envoy", workers + "; load, upstream, Envoy, servers and PostgreSQL (durable) share the machine"},
		{"closed loop", fmt.Sprintf("%d connections, %d pairs of rounds of %v after %v (%d where no bar is about it)",
			p.connections, p.rounds, p.round, p.warmUp, fewer(p.rounds))},
		{"fixed rate", fmt.Sprintf("%d/s, latency from when a request was due, %d pairs of rounds of %v (%d)",
			p.perSecond, p.pacedRounds, p.paced, fewer(p.pacedRounds))},
		{"users", fmt.Sprintf("%d warm; %d cold, each asked for once; every token names a session", p.few, p.many)},
		{"answers", "every one is checked: 200, and the right user arrived at the upstream"},
	}
}

func write(dir string, r *report.Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // to be read, and committed
		return err
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"RESULTS.md": []byte(r.Markdown()), "results.json": append(raw, '\n')} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
	}
	return nil
}

// commit is what the tree says it is.
func commit(ctx context.Context, env map[string]string) string {
	out, err := tool.Run(ctx, env, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
