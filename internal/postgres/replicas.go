package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// fenceChannel carries the numbers of fences. It is not noticeChannel, where
	// whatever a release does not understand makes it forget everything.
	fenceChannel = "gatehouse_fence"

	// Between two looks at who has confirmed.
	firstLook = 2 * time.Millisecond
	lastLook  = 50 * time.Millisecond
)

// Replica is an authz process that remembers users.
type Replica struct {
	ID          string
	Name        string // for people: host and process
	ProofOfLife time.Duration
	// Silence is the time since it last proved that it hears every change.
	Silence time.Duration
}

// Confirmation is how far the replicas have heard what was committed before it
// was asked for.
type Confirmation struct {
	Confirmed, Waiting []Replica
	// Gone had not confirmed, and then said that they remember nothing any more or
	// fell silent for longer than their proof of life.
	Gone []Replica
	Took time.Duration
}

// Confirm sends a fence, a numbered notice, and waits, for no longer than wait,
// until every replica that may trust its memory has heard it: PostgreSQL tells
// notices in the order of the commits, so each of them has then forgotten what the
// changes before the fence made untrue. A replica that reads on every check has no
// row and nothing to confirm.
func (s *Store) Confirm(ctx context.Context, wait time.Duration) (Confirmation, error) {
	start := time.Now()
	var fence int64
	err := s.change(ctx, querySendFence, "sending a fence", func(tx pgx.Tx) error {
		var void string
		// Clocks and old backups may set the row back; what a replica heard before
		// must not pass for this.
		return tx.QueryRow(ctx, `
			INSERT INTO gatehouse_fence AS f (number) VALUES ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
			ON CONFLICT (the_only) DO UPDATE SET number = greatest(f.number + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
			RETURNING f.number, pg_notify('`+fenceChannel+`', f.number::text)::text`).Scan(&fence, &void)
	})
	if err != nil {
		return Confirmation{}, err
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	waited := map[string]Replica{}
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		found, err := s.replicas(ctx, fence)
		if err != nil {
			return Confirmation{}, err
		}
		found.Took = time.Since(start)
		for _, r := range slices.Concat(found.Confirmed, found.Waiting) {
			delete(waited, r.ID)
		}
		for _, r := range waited {
			found.Gone = append(found.Gone, r)
		}
		for _, r := range slices.Concat(found.Gone, found.Waiting) {
			waited[r.ID] = r
		}
		if len(found.Waiting) == 0 {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-over.C:
			return found, nil
		case <-time.After(pause):
		}
	}
}

// replicas finds those that may trust their memory: they have a proof of life, or
// could have one that they had no time to write down.
func (s *Store) replicas(ctx context.Context, fence int64) (found Confirmation, err error) {
	err = s.read(ctx, queryReplicas, func(ctx context.Context) error {
		found = Confirmation{}
		rows, err := s.pool.Query(ctx, `
			SELECT id, name, proof_ms, greatest(0, extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::bigint, applied >= $1
			  FROM gatehouse_replicas
			 WHERE heartbeat_at BETWEEN clock_timestamp() - interval '3 s' - proof_ms * interval '1 ms' AND clock_timestamp() + interval '1 min'
			 ORDER BY name, id`, fence)
		if err != nil {
			return err
		}
		var id pgtype.UUID
		var r Replica
		var proof, silence int64
		var confirmed bool
		_, err = pgx.ForEachRow(rows, []any{&id, &r.Name, &proof, &silence, &confirmed}, func() error {
			r.ID = id.String()
			r.ProofOfLife, r.Silence = time.Duration(proof)*time.Millisecond, time.Duration(silence)*time.Millisecond
			if confirmed {
				found.Confirmed = append(found.Confirmed, r)
			} else {
				found.Waiting = append(found.Waiting, r)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return Confirmation{}, fmt.Errorf("asking which replicas have heard: %w", err)
	}
	return found, nil
}
