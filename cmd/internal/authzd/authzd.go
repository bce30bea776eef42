// Package authzd is the authz process: it joins the gate to its settings, to
// the database and to its listeners.
package authzd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/authz/activity"
	"github.com/atenex/gatehouse/authz/verified"
	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
	ops "github.com/atenex/gatehouse/internal/health"
	"github.com/atenex/gatehouse/internal/issuers"
	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/serve"
	"github.com/atenex/gatehouse/internal/token"
)

// stopGrace bounds the wait for checks under way; one takes 2 s at most.
const stopGrace = 5 * time.Second

// Run is the process. It returns its exit code.
func Run(ctx context.Context, call daemon.Call) int {
	return daemon.Main(ctx, daemon.Program{
		Name:        "authz",
		About:       "decides whether a request may pass and as whom (Envoy ext_authz v3 over gRPC)",
		Need:        config.NeedAuthz,
		Inspections: wiring.Inspections(),
		Ops:         func(s *config.Settings) config.Address { return s.Listen.AuthzOps },
		Serve:       func(ctx context.Context, p *daemon.Process) error { return run(ctx, p, call.Stdout) },
	}, call)
}

// Rules are what the settings say of decisions, with the verifier that they are
// made by: what is left to fill in is whom a gate asks, and who is told.
func Rules(s *config.Settings, verifier *token.Verifier) authz.Options {
	return authz.Options{
		Verifier:          verifier,
		Tokens:            verifier,
		SkipUserCheck:     s.Checks.User == config.CheckOff,
		SkipCompanyCheck:  s.Checks.Company == config.CheckOff,
		TokenRoles:        s.Tokens.Profile == config.ProfileSupabase,
		LegacyTokensUntil: s.Tokens.LegacyUntil,
		StreamMax:         s.Upstreams.StreamMax,
	}
}

func run(ctx context.Context, p *daemon.Process, stdout io.Writer) error {
	s := p.Settings
	counter, err := countVerified(p.Metrics)
	if err != nil {
		return err
	}
	var byIssuer func(issuer string) func(token.Key) func()
	if s.Tokens.IssuersFile != "" {
		if byIssuer, err = countByIssuer(p.Metrics); err != nil {
			return err
		}
		counter = both(counter, byIssuer(token.Own))
	}
	ring, rules, err := wiring.KeyRing(s.Tokens, keyring.Options{Counter: counter, Registerer: p.Metrics, Logger: p.Log})
	if err != nil {
		return daemon.Misused(err)
	}
	verifier, err := token.NewVerifier(rules)
	if err != nil {
		return daemon.Misused(err)
	}
	ring.OnChange(verifier.Replace)
	book, err := wiring.Issuers(s, verifier, issuers.Options{Counter: byIssuer, Registerer: p.Metrics, Logger: p.Log})
	if err != nil {
		return daemon.Misused(err)
	}
	if book != nil {
		ring.OnChange(func(*token.KeySet) { book.Refresh() })
		warnUnchecked(book, p.Log)
	}
	fit := fitMemory(s.Activity, p.Log)
	options := Rules(s, verifier)
	if err := AddRoutes(&options, s); err != nil {
		return daemon.Misused(err)
	}
	options.Instance = replicaName()
	options.Registerer, options.Logger = p.Metrics, p.Log
	if s.DecisionLog.To != "" {
		decisions, stop, err := recordDecisions(p, stdout)
		if err != nil {
			return err
		}
		defer stop()
		options.Recorder = decisions
	}
	if s.Activity.TokenCache {
		tokens, err := verified.New(verified.Options{Verifier: verifier, Bytes: fit.tokens, Registerer: p.Metrics})
		if err != nil {
			return err
		}
		// In this order: the keys are replaced first (see above), and then what they
		// were good for is forgotten.
		ring.OnChange(func(*token.KeySet) { tokens.Forget() })
		if book != nil {
			book.OnChange(tokens.Forget)
		}
		options.Verifier = tokens
	}
	// A gate that asks nothing is ready at once.
	ping := func(context.Context) error { return nil }
	if s.Checks.NeedStore() {
		store, err := wiring.OpenStore(ctx, s.Database, "gatehouse-authz", p.Log, p.Metrics, p.Tracing.Tracer())
		if err != nil {
			return daemon.Misused(err)
		}
		defer store.Close()
		options.Directory = store
		ping = store.Ping
		if s.Activity.Cache {
			cache, stop, err := remember(ctx, p, store, fit.users)
			if err != nil {
				return err
			}
			defer stop()
			options.Directory, options.Memory = cache, cache
		}
	}
	gate, err := authz.New(options)
	if err != nil {
		return err
	}

	secured, err := transport(s.TLS.Authz, p.Log)
	if err != nil {
		return daemon.Misused(err)
	}
	checks, err := serve.Listen(ctx, s.Listen.Authz.String())
	if err != nil {
		return err
	}
	defer func() { _ = checks.Close() }()
	operations, err := serve.Listen(ctx, s.Listen.AuthzOps.String())
	if err != nil {
		return err
	}
	defer func() { _ = operations.Close() }()
	if err := p.Announce(map[string]string{
		"authz_grpc": serve.Address(checks),
		"authz_ops":  "http://" + serve.Address(operations),
	}); err != nil {
		return err
	}

	state := health.NewServer()
	state.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	server := grpc.NewServer(append(append(authz.ServerOptions(), p.Tracing.ServerOptions()...), secured...)...)
	gate.Register(server)
	healthv1.RegisterHealthServer(server, state)

	var serving, stopping atomic.Bool
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go ring.Run(watching, p.Hangups)
	go wiring.WatchIssuers(watching, book)
	go func() {
		awaitKeys(watching, ring, book, p.Log)
		gate.WatchReady(watching, ping, func() {
			serving.Store(true)
			state.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
			p.Log.Info("ready")
		})
	}()
	ready := func() error {
		switch {
		case stopping.Load():
			return errors.New("stopping")
		case serving.Load():
			return nil
		case gate.Ready():
			return errors.New("the key set has not been fetched yet")
		}
		return errors.New("the database has not answered yet")
	}
	// The operations face goes first and last, so that the drain can be seen.
	return serve.Run(ctx, p.Drain+stopGrace,
		serve.HTTP("operations", operations, ops.NewServer(p.Operations(ready), p.Log)),
		serve.Drained(checkService(server, checks), p.Drain, func() {
			stopping.Store(true)
			state.Shutdown() // NOT_SERVING, whatever is set afterwards
			p.Log.Info("draining", "for", p.Drain.String())
		}),
	)
}

// warnUnchecked says what is right and dangerous, as it is said of settings.
func warnUnchecked(book *issuers.Book, log *slog.Logger) {
	for _, i := range book.Issuers() {
		if i.Unchecked {
			log.Warn("users of an issuer are not looked up: deleted, disabled and revoked ones keep their access until their tokens expire", "issuer", i.Name)
		}
	}
}

// remember puts memory before the store, and a listener beside it that says what
// to forget. It listens until stop: while the last checks are drained, memory is
// worth as much as before.
func remember(ctx context.Context, p *daemon.Process, store *postgres.Store, bytes int64) (cache *activity.Cache, stop func(), err error) {
	s := p.Settings
	cache, err = activity.New(activity.Options{
		Store:       store,
		Bytes:       bytes,
		ProofOfLife: s.Activity.ProofOfLife,
		ReadTimeout: authz.DefaultLookupTimeout,
		Registerer:  p.Metrics,
		Logger:      p.Log,
	})
	if err != nil {
		return nil, nil, err
	}
	listener, err := postgres.NewListener(postgres.ListenerOptions{
		URL:         s.Database.URL.Reveal(),
		AppName:     "gatehouse-authz-listener",
		ProofOfLife: s.Activity.ProofOfLife,
		Sink:        cache,
		Replica:     replicaName(),
		Logger:      p.Log,
	})
	if err != nil {
		return nil, nil, daemon.Misused(err)
	}
	listening, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		listener.Run(listening)
	}()
	return cache, func() {
		cancel()
		<-ended
	}, nil
}

// replicaName tells people which process has not confirmed a change.
func replicaName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unnamed"
	}
	return host + ":" + strconv.Itoa(os.Getpid())
}

// checkService stops by telling its clients to go elsewhere (GOAWAY) and letting
// the checks under way end; at the end of the bound it cuts off what is left.
func checkService(s *grpc.Server, l net.Listener) serve.Part {
	return serve.Part{
		Name:  "checks",
		Serve: func() error { return s.Serve(l) },
		Stop: func(ctx context.Context) {
			stopped := make(chan struct{})
			go func() {
				s.GracefulStop()
				close(stopped)
			}()
			select {
			case <-stopped:
			case <-ctx.Done():
				s.Stop()
				<-stopped
			}
		},
	}
}
