package revocation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/atenex/gatehouse/tests/bench/figures"
	"github.com/atenex/gatehouse/tests/bench/load"
	"github.com/atenex/gatehouse/tests/bench/rig"
)

const (
	// probersPerReplica is more than one, so that a request that is under way
	// while another is refused can show a stale allow.
	probersPerReplica = 2
	probePause        = time.Millisecond
	// aftermath is for how long a replica is asked on once all have refused.
	aftermath = 10 * time.Millisecond
	// restoreTimeout bounds the wait until a user is let in again.
	restoreTimeout = 5 * time.Second
	// patience is for a refusal past the bound, so that it can be told by how much
	// the bound was missed.
	patience = 5 * time.Second
)

// Options describe a run.
type Options struct {
	Replicas []string     // Envoy's listener before each
	Subjects []rig.Person // whose access is taken; nobody else may use them
	Database string
	Rounds   int
	// Bound is the documented one: no allow later than this after a commit.
	Bound time.Duration
	// Load is run meanwhile, in equal parts on all replicas.
	Background *load.Credentials
	PerSecond  int
}

// Result is what the rounds showed together.
type Result struct {
	Rounds   int                             `json:"rounds"`
	Replicas int                             `json:"replicas"`
	Last     figures.Distribution            `json:"last_replica"`
	Each     []figures.Distribution          `json:"each_replica"`
	ByAct    map[string]figures.Distribution `json:"last_replica_by_act"`
	Probes   int                             `json:"probes"`
	// Background is the latency of the load's requests, all of them allowed.
	Background figures.Distribution `json:"background"`
	PerSecond  int                  `json:"background_per_second"`
	All        []Round              `json:"all"`
}

// Round is one of them.
type Round struct {
	Act  string          `json:"act"`
	Lags []time.Duration `json:"lags_ns"`
}

// Run does all rounds. An error is a broken promise, or a request that failed.
func Run(ctx context.Context, o Options) (Result, error) {
	db, err := pgx.Connect(ctx, o.Database)
	if err != nil {
		return Result{}, err
	}
	defer db.Close(context.WithoutCancel(ctx))
	var probers []*prober
	defer func() {
		for _, p := range probers {
			_ = p.conn.Close()
		}
	}()
	for replica, address := range o.Replicas {
		for range probersPerReplica {
			c, err := load.Dial(ctx, address)
			if err != nil {
				return Result{}, err
			}
			probers = append(probers, &prober{replica: replica, conn: c, pause: probePause})
		}
	}

	// What ends first ends the other: the load when the rounds are over, the
	// rounds when the load fails.
	both, ctx := errgroup.WithContext(ctx)
	over := make(chan struct{})
	var background []time.Duration
	both.Go(func() (err error) {
		background, err = o.load(ctx, over)
		return err
	})
	var out Result
	both.Go(func() (err error) {
		defer close(over)
		out, err = o.rounds(ctx, db, probers)
		return err
	})
	if err := both.Wait(); err != nil {
		return Result{}, err
	}
	out.Background, out.PerSecond = figures.Distribute(background), o.PerSecond
	return out, nil
}

func (o Options) load(ctx context.Context, over <-chan struct{}) ([]time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	side, ctx := errgroup.WithContext(ctx)
	for _, address := range o.Replicas {
		side.Go(func() error {
			t, err := load.Paced{
				Address: address, Connections: 16, Requests: load.Everyone(o.Background),
				PerSecond: max(1, o.PerSecond/len(o.Replicas)), Measure: time.Hour, Stop: over,
				Mark: func() error { return nil },
			}.Run(ctx)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, t.Latencies...)
			return err
		})
	}
	err := side.Wait()
	return all, err
}

func (o Options) rounds(ctx context.Context, db *pgx.Conn, probers []*prober) (Result, error) {
	dice := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // which user is next is no secret, and runs should be alike
	out := Result{Rounds: o.Rounds, Replicas: len(o.Replicas), ByAct: map[string]figures.Distribution{}}
	var last []time.Duration
	each := make([][]time.Duration, len(o.Replicas))
	byAct := map[string][]time.Duration{}
	all := acts()
	for i := range o.Rounds {
		a, person := all[i%len(all)], o.Subjects[dice.IntN(len(o.Subjects))]
		before := 2*time.Millisecond + time.Duration(dice.Int64N(int64(10*time.Millisecond)))
		probes, c, err := o.round(ctx, db, probers, a, person, before)
		if err != nil {
			return Result{}, fmt.Errorf("round %d, %s: %w", i, a.name, err)
		}
		v, err := Judge(probes, len(o.Replicas), c, o.Bound)
		if err != nil {
			return Result{}, fmt.Errorf("round %d, %s: %w", i, a.name, err)
		}
		out.Probes += len(probes)
		out.All = append(out.All, Round{Act: a.name, Lags: v.Lags})
		last = append(last, v.Last)
		byAct[a.name] = append(byAct[a.name], v.Last)
		for r, lag := range v.Lags {
			each[r] = append(each[r], lag)
		}
	}
	out.Last = figures.Distribute(last)
	for name, lags := range byAct {
		out.ByAct[name] = figures.Distribute(lags)
	}
	for _, lags := range each {
		out.Each = append(out.Each, figures.Distribute(lags))
	}
	return out, nil
}

// round takes one user's access away while all replicas are asked as that user,
// and gives it back.
func (o Options) round(ctx context.Context, db *pgx.Conn, probers []*prober, a act, person rig.Person, before time.Duration) ([]Probe, Change, error) {
	request := load.Request(a.token(person))
	for _, p := range probers {
		if err := p.admitted(ctx, request); err != nil {
			return nil, Change{}, err
		}
	}
	watching, ctx := errgroup.WithContext(ctx)
	stop := make(chan struct{})
	refused := make(chan int, len(probers))
	seen := make([][]Probe, len(probers))
	for i, p := range probers {
		watching.Go(func() (err error) {
			seen[i], err = p.watch(ctx, request, func(replica int) { refused <- replica }, stop)
			return err
		})
	}
	c := Change{Refusal: a.refusal}
	watching.Go(func() error {
		defer close(stop)
		if err := pause(ctx, before); err != nil {
			return err
		}
		c.Issued = time.Now()
		if err := change(ctx, db, a.take, a.subject(person)); err != nil {
			return err
		}
		c.Acknowledged = time.Now()
		if err := o.allRefused(ctx, refused); err != nil {
			return err
		}
		return pause(ctx, aftermath)
	})
	if err := watching.Wait(); err != nil {
		return nil, c, err
	}
	var probes []Probe
	for _, s := range seen {
		probes = append(probes, s...)
	}
	// The group's context has ended with it.
	return probes, c, change(context.WithoutCancel(ctx), db, a.restore, a.subject(person))
}

// allRefused returns when each replica has, or when it is plain that one will not:
// Judge then says which.
func (o Options) allRefused(ctx context.Context, refused <-chan int) error {
	limit := time.NewTimer(o.Bound + patience)
	defer limit.Stop()
	heard := map[int]bool{}
	for len(heard) < len(o.Replicas) {
		select {
		case r := <-refused:
			heard[r] = true
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	}
}
