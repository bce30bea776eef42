package revocation

import (
	"context"
	"fmt"
	"time"

	"github.com/atenex/gatehouse/tests/bench/load"
)

// prober asks one replica again and again as one user, on a connection of its own.
type prober struct {
	replica int
	conn    *load.Conn
	pause   time.Duration // from an answer to the next request
}

// ask sends one request.
func (p *prober) ask(request []byte) (Probe, error) {
	sent := time.Now()
	if err := p.conn.Send(request); err != nil {
		return Probe{}, fmt.Errorf("probing replica %d: %w", p.replica, err)
	}
	a, err := p.conn.Receive()
	if err != nil {
		return Probe{}, fmt.Errorf("probing replica %d: %w", p.replica, err)
	}
	return Probe{Replica: p.replica, Sent: sent, Arrived: time.Now(), Status: a.Status}, nil
}

// watch asks until stop and tells of the first answer that is no allow.
func (p *prober) watch(ctx context.Context, request []byte, refused func(replica int), stop <-chan struct{}) ([]Probe, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var out []Probe
	told := false
	for {
		select {
		case <-ctx.Done():
			return out, context.Cause(ctx)
		case <-stop:
			return out, nil
		case <-timer.C:
		}
		one, err := p.ask(request)
		if err != nil {
			return out, err
		}
		out = append(out, one)
		if one.Status != 200 && !told {
			told = true
			refused(p.replica)
		}
		timer.Reset(p.pause)
	}
}

// admitted waits until the replica lets the user in.
func (p *prober) admitted(ctx context.Context, request []byte) error {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	tick := time.NewTicker(p.pause)
	defer tick.Stop()
	for {
		one, err := p.ask(request)
		if err != nil {
			return err
		}
		if one.Status == 200 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("replica %d still answers %d to a user who may enter: %w", p.replica, one.Status, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
