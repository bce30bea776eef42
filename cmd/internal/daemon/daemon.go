// Package daemon is what the authz and the login process have in common: their
// command line, reading the settings, the log, the metrics registry, the
// healthcheck and the file that says where they listen.
//
// It must never know what either of them serves.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/buildinfo"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/health"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/tracing"
)

// Exit codes of every binary of ours.
const (
	Fine   = 0
	Failed = 1
	Misuse = 2 // a wrong command line or a wrong setting
)

// Call is one start of a process: its arguments and where it writes.
type Call struct {
	Args           []string
	Environ        []string
	Stdout, Stderr io.Writer
}

// Program is what makes one daemon different from the other.
type Program struct {
	Name  string
	About string // one sentence for --help
	Need  config.Need
	// Inspections are what the parts find wrong with their settings.
	Inspections []config.Inspection
	// Ops is the operations address, for those who ask the service on this machine.
	Ops func(*config.Settings) config.Address
	// Serve runs until ctx ends. Its error is logged once, by Main; one of
	// Misused is a wrong setting that only the part it is for could find.
	Serve func(context.Context, *Process) error
}

// Misused marks an error as a wrong setting, for exit code 2.
func Misused(err error) error {
	if err == nil {
		return nil
	}
	return &misused{err}
}

type misused struct{ error }

func (m *misused) Unwrap() error { return m.error }

// Process is a started daemon.
type Process struct {
	Settings *config.Settings
	Log      *slog.Logger
	Metrics  *prometheus.Registry
	Tracing  *tracing.Tracing
	// Drain is how long a server goes on serving after it has said that it is
	// about to stop, so that whoever balances load has time to hear of it.
	Drain time.Duration

	// Hangups are the SIGHUPs that this process gets: read the keys anew.
	Hangups <-chan os.Signal

	readyFile string
	level     *health.LogLevel
}

// Operations is the operations face; ready is nil when the service can work.
func (p *Process) Operations(ready func() error) http.Handler {
	return health.Ops(p.Metrics, ready, p.level, p.Log)
}

// Main runs the program and returns the exit code.
func Main(ctx context.Context, p Program, call Call) int {
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(call.Stderr)
	flags.Usage = func() {
		fmt.Fprintf(call.Stderr, "%s: %s\n\n  %s [flags]        serve; settings come from GATEWAY_… and .env\n  %s healthcheck    exit 0 if the one on this machine is ready\n  %s log-level [LEVEL] [--for DURATION]\n                       show or change from which level on the one on this machine logs\n\nflags:\n", p.Name, p.About, p.Name, p.Name, p.Name)
		flags.PrintDefaults()
	}
	process := &Process{}
	version := flags.Bool("version", false, "print the version and exit")
	flags.StringVar(&process.readyFile, "ready-file", "", "write the addresses listened on to `FILE`, as JSON, once serving")
	flags.DurationVar(&process.Drain, "drain", 2*time.Second, "keep serving for `DURATION` after announcing the stop")
	switch err := flags.Parse(call.Args); {
	case errors.Is(err, flag.ErrHelp):
		return Fine
	case err != nil:
		return Misuse
	}
	if *version {
		fmt.Fprintf(call.Stdout, "%s %s (%s)\n", p.Name, buildinfo.Version(), buildinfo.Revision())
		return Fine
	}
	ask, err := errand(p.Name, flags.Args(), call)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return Fine
	case err != nil:
		fmt.Fprintf(call.Stderr, "%s: %v; see %s --help\n", p.Name, err, p.Name)
		return Misuse
	}

	settings, warnings, err := config.Load(config.Source{Environ: call.Environ, Dir: "."}, p.Need, p.Inspections...)
	var traces tracing.Config
	if ask == nil {
		var more []string
		var wrong error
		traces, more, wrong = tracing.Read(call.Environ, "gatehouse-"+p.Name)
		warnings, err = append(warnings, more...), errors.Join(err, wrong)
	}
	if err != nil {
		fmt.Fprintln(call.Stderr, err)
		return Misuse
	}
	if ask != nil {
		return ask(ctx, p.Ops(settings))
	}

	process.Settings = settings
	process.level = health.NewLogLevel(settings.LogLevel)
	process.Log = newLog(call.Stderr, process.level).With("service", p.Name)
	process.Metrics = newRegistry()
	process.Tracing, err = tracing.New(tracing.Options{
		Config: traces, Version: buildinfo.Version(), Metrics: process.Metrics, Logger: process.Log,
	})
	if err != nil {
		fmt.Fprintln(call.Stderr, err)
		return Failed
	}
	for _, w := range warnings {
		process.Log.Warn("settings", "warning", w)
	}
	process.Log.Info("starting", "version", buildinfo.Version(), "revision", buildinfo.Revision(), "settings", settings, "tracing", traces)
	if err := process.Tracing.Start(ctx); err != nil {
		process.Log.Error("stopped", "error", err)
		return Failed
	}
	defer process.Tracing.Stop()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	process.Hangups = hangups
	err = p.Serve(ctx, process)
	if wrong, ok := errors.AsType[*misused](err); ok {
		fmt.Fprintln(call.Stderr, wrong)
		return Misuse
	}
	if err != nil {
		process.Log.Error("stopped", "error", err)
		return Failed
	}
	process.Log.Info("stopped")
	return Fine
}

// newLog writes JSON lines, each with the request and the trace that it was written
// for, where there are any.
func newLog(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(tracing.Handler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), func(ctx context.Context) []slog.Attr {
		if id := identity.OriginOf(ctx).RequestID; id != "" {
			return []slog.Attr{slog.String("request_id", id)}
		}
		return nil
	}))
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "gatehouse_build_info",
		Help:        "Always 1; which build this is stands in the labels.",
		ConstLabels: prometheus.Labels{"version": buildinfo.Version(), "revision": buildinfo.Revision(), "goversion": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Announce writes the addresses to the ready file, if one was asked for. The
// file appears whole: whoever waits for it never reads half of it.
func (p *Process) Announce(addresses map[string]string) error {
	p.Log.Info("serving", "addresses", addresses)
	if p.readyFile == "" {
		return nil
	}
	text, err := json.Marshal(addresses)
	if err != nil {
		return err
	}
	return atomicfile.Write(p.readyFile, text, 0o600)
}
