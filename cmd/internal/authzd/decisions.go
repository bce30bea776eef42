package authzd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/decisionlog"
)

// flushGrace bounds the wait for the last lines: a disk that hangs, or a reader of
// standard output that does not read, must not keep the process from ending.
const flushGrace = 2 * time.Second

// recordDecisions opens the decision log and writes it until stop, which is for
// when the last check has been answered.
func recordDecisions(p *daemon.Process, stdout io.Writer) (log *decisionlog.Log, stop func(), err error) {
	s := p.Settings.DecisionLog
	o := decisionlog.Options{Sample: s.Sample, Registerer: p.Metrics, Logger: p.Log}
	if s.To == config.DecisionsStdout {
		o.Writer = stdout
	} else {
		o.Name, o.Capacity, o.Keep = s.To, s.MaxBytes, s.MaxFiles
	}
	if log, err = decisionlog.Open(o); err != nil {
		return nil, nil, daemon.Misused(fmt.Errorf("GATEWAY_DECISION_LOG: %w", err))
	}
	hangups := make(chan os.Signal, 1) // the key ring takes the process's own
	signal.Notify(hangups, syscall.SIGHUP)
	writing, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		log.Run(writing, hangups)
	}()
	return log, func() {
		signal.Stop(hangups)
		cancel()
		select {
		case <-ended:
		case <-time.After(flushGrace):
			p.Log.Error("the last decisions could not be written in time", "waited", flushGrace)
		}
	}, nil
}
