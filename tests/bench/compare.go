package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/atenex/gatehouse/tests/bench/edge"
	"github.com/atenex/gatehouse/tests/bench/figures"
	"github.com/atenex/gatehouse/tests/bench/load"
	"github.com/atenex/gatehouse/tests/bench/proc"
	"github.com/atenex/gatehouse/tests/bench/report"
	"github.com/atenex/gatehouse/tests/bench/rig"
)

// arena is where contestants meet.
type arena struct {
	plan
	people   *rig.People
	noop     contestant
	envoy    *rig.Envoy
	postgres int // process id
	say      func(format string, a ...any)
}

// compare makes every comparison.
func compare(ctx context.Context, p plan, r *rig.Rig, people *rig.People, upstream string, say func(string, ...any)) (all []report.Comparison, skipped []string, err error) {
	stage, ctx := r.Stage(ctx)
	defer func() { err = errors.Join(err, stage.Close()) }()
	noop, matters, skipped, err := cast(ctx, p, r, stage)
	if err != nil {
		return nil, nil, err
	}
	listeners := []edge.Listener{noop.listener()}
	for _, m := range matters {
		listeners = append(listeners, m.rival.listener())
	}
	b, err := edge.Bootstrap(upstream, listeners)
	if err != nil {
		return nil, nil, err
	}
	a := arena{plan: p, people: people, noop: noop, postgres: r.PostgresPID(), say: say}
	if a.envoy, err = stage.Envoy(ctx, b, p.envoyWorkers); err != nil {
		return nil, nil, err
	}
	for _, l := range listeners {
		if err := open(ctx, a.envoy.Listeners[l.Name], people.Few[0].Token); err != nil {
			return nil, nil, fmt.Errorf("the listener %s: %w", l.Name, err)
		}
	}
	for _, m := range matters {
		c, err := a.meet(ctx, m)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", m.title, err)
		}
		all = append(all, c)
	}
	return all, skipped, nil
}

// open waits until a listener lets a request through: Envoy has to find its
// clusters in health first, and authz its proof of life.
func open(ctx context.Context, address, token string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("no request passed within 30 s"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := load.Ask(ctx, address, load.Request(token))
		if err == nil && status == 200 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("answered %d (%w): %w", status, err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// meet makes one comparison: first every pair of the closed loop, then those at
// the fixed rate. Who goes first alternates.
func (a *arena) meet(ctx context.Context, m matter) (report.Comparison, error) {
	c := report.Comparison{Name: m.name, Title: m.title}
	closed, paced := a.rounds, a.pacedRounds
	if !m.bar {
		closed, paced = fewer(closed), fewer(paced)
	}
	if !m.paced {
		paced = 0
	}
	deck := a.deal(m, closed, paced)
	for i := range closed {
		pair, err := a.pair(ctx, m, i, deck.closed(i), a.closedRound)
		if err != nil {
			return c, err
		}
		c.Closed = append(c.Closed, pair)
	}
	for i := range paced {
		pair, err := a.pair(ctx, m, i, deck.paced(i), a.pacedRound)
		if err != nil {
			return c, err
		}
		c.Paced = append(c.Paced, pair)
	}
	c.Summarise()
	timing := ""
	if paced > 0 {
		timing = fmt.Sprintf(", p50 %.2f ×, p99 %.2f ×", c.P50.Median, c.P99.Median)
	}
	a.say("%-20s %.2f × the no-op's throughput, %.2f × its CPU%s", m.name, c.Throughput.Median, c.AuthCPU.Median, timing)
	return c, nil
}

type rounder func(context.Context, contestant, *load.Requests) (report.Round, error)

// pair is two rounds with the same requests.
func (a *arena) pair(ctx context.Context, m matter, i int, requests func() *load.Requests, round rounder) (report.Pair, error) {
	p := report.Pair{NoopFirst: i%2 == 0}
	noop := func() (err error) {
		p.Noop, err = round(ctx, a.noop, requests())
		return err
	}
	rival := func() (err error) {
		p.Rival, err = round(ctx, m.rival, requests())
		return err
	}
	order := []func() error{rival, noop}
	if p.NoopFirst {
		order = []func() error{noop, rival}
	}
	for _, one := range order {
		if err := one(); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (a *arena) closedRound(ctx context.Context, c contestant, requests *load.Requests) (report.Round, error) {
	meters := a.metersOf(c)
	t, err := load.Closed{
		Address: a.envoy.Listeners[c.name], Connections: a.connections, Requests: c.expecting(requests),
		WarmUp: a.warmUp, Measure: a.round, Mark: meters.mark,
	}.Run(ctx)
	if err != nil {
		return report.Round{}, fmt.Errorf("%s: %w", c.name, err)
	}
	return meters.round(t.Answers, t.Time), nil
}

func (a *arena) pacedRound(ctx context.Context, c contestant, requests *load.Requests) (report.Round, error) {
	meters := a.metersOf(c)
	t, err := load.Paced{
		Address: a.envoy.Listeners[c.name], Connections: 2 * a.connections, Requests: c.expecting(requests),
		PerSecond: a.perSecond, WarmUp: a.warmUp, Measure: a.paced, Mark: meters.mark,
	}.Run(ctx)
	if err != nil {
		return report.Round{}, fmt.Errorf("%s: %w", c.name, err)
	}
	round := meters.round(int64(len(t.Latencies)), a.paced)
	latency, late := figures.Distribute(t.Latencies), figures.Distribute(t.Late)
	round.Latency, round.Late = &latency, &late
	return round, nil
}

func (c contestant) expecting(r *load.Requests) *load.Requests {
	if c.names != nil {
		return r.Seeing(*c.names)
	}
	return r
}

// meters are the CPU clocks of a round, read as its measured time begins and ends.
type meters struct {
	auth            *int // process id; nil: nobody is asked
	envoy, postgres int
	marks           [][4]time.Duration
}

func (a *arena) metersOf(c contestant) *meters {
	m := &meters{envoy: a.envoy.PID, postgres: a.postgres}
	if c.server != nil {
		m.auth = &c.server.PID
	}
	return m
}

func (m *meters) mark() (err error) {
	var now [4]time.Duration
	if m.auth != nil {
		if now[0], err = proc.CPU(*m.auth); err != nil {
			return err
		}
	}
	if now[1], err = proc.CPU(m.envoy); err != nil {
		return err
	}
	if now[2], err = proc.Family(m.postgres); err != nil {
		return err
	}
	if now[3], err = proc.CPU(os.Getpid()); err != nil {
		return err
	}
	m.marks = append(m.marks, now)
	return nil
}

func (m *meters) round(answers int64, took time.Duration) report.Round {
	begin, end := m.marks[0], m.marks[1]
	return report.Round{
		Answers: answers, Time: took,
		AuthCPU: end[0] - begin[0], EnvoyCPU: end[1] - begin[1], PostgresCPU: end[2] - begin[2], LoadCPU: end[3] - begin[3],
	}
}
