package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// reportEvery is the pause between two reports of a replica that has nothing
	// to confirm.
	reportEvery = time.Second
	// reportTimeout bounds one report, and what a replica that stops waits for its
	// row to go.
	reportTimeout = 2 * time.Second
	// refusedPause is the pause after a report for which a right or the table was
	// missing: they may come without a restart.
	refusedPause = 15 * time.Second
	// sweepReplicas is how often rows of replicas that are gone are looked for.
	sweepReplicas = time.Minute
)

// reporter keeps the row of one Listener in gatehouse_replicas. It has a connection
// of its own: whatever holds up a row must not hold up a notice. Nothing that goes
// wrong here is told to the listener.
type reporter struct {
	config  *pgx.ConnConfig
	id      pgtype.UUID
	name    string
	started time.Time
	proof   time.Duration
	clock   func() time.Time
	logger  *slog.Logger
	wake    chan struct{}

	mu    sync.Mutex
	now   hearing
	woken time.Time
}

// hearing is what there is to report.
type hearing struct {
	proved  time.Time // when the last proof of life was sent; zero: changes are not heard
	applied int64     // the last fence that was heard before it
}

func newReporter(config *pgx.ConnConfig, opts ListenerOptions) (*reporter, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	config = config.Copy()
	config.OnNotification = nil
	return &reporter{
		config: config, id: pgtype.UUID{Bytes: id, Valid: true}, name: opts.Replica,
		started: opts.Clock(), proof: opts.ProofOfLife, clock: opts.Clock, logger: opts.Logger,
		wake: make(chan struct{}, 1),
	}, nil
}

// alive takes a proof of life, and the fence that was heard before it was sent.
func (r *reporter) alive(at time.Time, fence int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.proved.IsZero() || r.now.applied != fence || at.Sub(r.woken) >= reportEvery {
		r.woken = at
		r.rouse()
	}
	r.now = hearing{proved: at, applied: fence}
}

// lost says that there is no memory that anybody could wait for.
func (r *reporter) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.now.proved.IsZero() {
		r.now = hearing{}
		r.rouse()
	}
}

func (r *reporter) rouse() {
	select {
	case r.wake <- struct{}{}:
	default: // it will read the newest state anyway
	}
}

func (r *reporter) state() hearing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// run reports until ctx ends, and takes the row away then.
func (r *reporter) run(ctx context.Context) {
	var line reportLine
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTimeout)
		defer cancel()
		if line.conn != nil {
			_ = r.write(last, &line, hearing{})
		}
		line.hangUp()
	}()
	warned := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		// What is begun is brought to its end, so that the row can be taken away.
		err := r.report(context.WithoutCancel(ctx), &line)
		if err == nil {
			warned = false
			continue
		}
		line.hangUp()
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || strings.HasPrefix(refused.Code, classIntervention) {
			r.again() // a server that is away is the listener's to tell
			continue
		}
		if !warned {
			warned = true
			r.logger.WarnContext(ctx, "this replica cannot say what it has heard: the operator's command will not wait for it; "+
				"changes are heard all the same", "table", "gatehouse_replicas", "error", err.Error())
		}
		if strings.HasPrefix(refused.Code, classDenied) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(refusedPause):
			}
		}
		r.again()
	}
}

// again makes the next heartbeat worth a report.
func (r *reporter) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.woken = time.Time{}
}

func (r *reporter) report(ctx context.Context, line *reportLine) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if line.conn == nil {
		if r.state().proved.IsZero() {
			return nil // nobody can have been told of us
		}
		conn, err := pgx.ConnectConfig(ctx, r.config)
		if err != nil {
			return once(err)
		}
		*line = reportLine{conn: conn}
	}
	return r.write(ctx, line, r.state())
}

// reportLine is a connection of a reporter.
type reportLine struct {
	conn  *pgx.Conn
	swept time.Time
}

func (l *reportLine) hangUp() {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = l.conn.Close(ctx)
	l.conn = nil
}

// write is one transaction, of which a crash may lose the end. Its settings are
// local to it, so that none is left behind on a connection of some proxy.
func (r *reporter) write(ctx context.Context, line *reportLine, now hearing) error {
	opts := pgx.TxOptions{BeginQuery: `begin; set local synchronous_commit = off; set local lock_timeout = '1s'`}
	return pgx.BeginTxFunc(ctx, line.conn, opts, func(tx pgx.Tx) error {
		if now.proved.IsZero() {
			_, err := tx.Exec(ctx, `DELETE FROM gatehouse_replicas WHERE id = $1`, r.id)
			return err
		}
		at := r.clock()
		// Anybody may send a notice: a number that no command has taken yet must not
		// confirm the ones to come.
		_, err := tx.Exec(ctx, `
			INSERT INTO gatehouse_replicas AS r (id, name, started_at, heartbeat_at, proof_ms, applied)
			SELECT $1::uuid, $2::text, m.at - $3::bigint * interval '1 us', m.at - $4::bigint * interval '1 us', $5::bigint,
			       least($6::bigint, coalesce((SELECT max(number) FROM gatehouse_fence), 0))
			  FROM (SELECT clock_timestamp() AS at) m
			ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, applied = excluded.applied`,
			r.id, r.name, at.Sub(r.started).Microseconds(), at.Sub(now.proved).Microseconds(), r.proof.Milliseconds(), now.applied)
		if err != nil || at.Sub(line.swept) < sweepReplicas {
			return err
		}
		line.swept = at
		// One that is far ahead was written by a clock that has been put back since.
		_, err = tx.Exec(ctx, `DELETE FROM gatehouse_replicas WHERE id IN (
			SELECT id FROM gatehouse_replicas
			 WHERE heartbeat_at NOT BETWEEN now() - interval '1 min' - proof_ms * interval '1 ms' AND now() + interval '1 min'
			 LIMIT 100 FOR UPDATE SKIP LOCKED)`)
		return err
	})
}

// lastFence reads which fences the flush of this connection covers: those that
// were sent before the LISTEN. Whoever may not read it, or has to wait for it,
// confirms only those that come after.
func (l *Listener) lastFence(ctx context.Context, conn *pgx.Conn) error {
	var number int64
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{BeginQuery: `begin; set local lock_timeout = '100ms'`}, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT number FROM gatehouse_fence`).Scan(&number)
	})
	var refused *pgconn.PgError
	if err != nil && !errors.Is(err, pgx.ErrNoRows) && (!errors.As(err, &refused) || connectionLost(err)) {
		return fmt.Errorf("reading the last fence: %w", l.late(ctx, err))
	}
	l.fence = max(l.fence, number) // one may have come meanwhile
	return nil
}
