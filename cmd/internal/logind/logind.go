// Package logind is the login process: it joins the login service to its
// settings, to the database and to its listeners.
package logind

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/atenex/gatehouse/cmd/internal/daemon"
	"github.com/atenex/gatehouse/cmd/internal/wiring"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/health"
	"github.com/atenex/gatehouse/internal/issuers"
	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/internal/serve"
	"github.com/atenex/gatehouse/internal/token"
	"github.com/atenex/gatehouse/login"
	"github.com/atenex/gatehouse/login/supabase"
)

// stopGrace bounds the wait for requests under way, which take 15 s at most.
const stopGrace = 16 * time.Second

// Run is the process. It returns its exit code.
func Run(ctx context.Context, call daemon.Call) int {
	return daemon.Main(ctx, daemon.Program{
		Name:        "login",
		About:       "signs people in and puts them in a company (HTTP)",
		Need:        config.NeedLogin,
		Inspections: wiring.Inspections(),
		Ops:         func(s *config.Settings) config.Address { return s.Listen.LoginOps },
		Serve:       run,
	}, call)
}

func run(ctx context.Context, p *daemon.Process) error {
	s := p.Settings
	ring, rules, err := wiring.KeyRing(s.Tokens, keyring.Options{Signing: true, Registerer: p.Metrics, Logger: p.Log})
	if err != nil {
		return daemon.Misused(err)
	}
	verifier, err := token.NewVerifier(rules)
	if err != nil {
		return daemon.Misused(err)
	}
	issuer, err := token.NewIssuer(rules, s.Tokens.TTL)
	if err != nil {
		return daemon.Misused(err)
	}
	ring.OnChange(verifier.Replace)
	// Never without a key that signs: the ring takes no such set.
	ring.OnChange(func(keys *token.KeySet) { _ = issuer.Replace(keys) })
	book, err := wiring.Issuers(s, verifier, issuers.Options{Registerer: p.Metrics, Logger: p.Log})
	if err != nil {
		return daemon.Misused(err)
	}
	if book != nil {
		ring.OnChange(func(*token.KeySet) { book.Refresh() })
	}
	passwords, err := password.New(password.Options{
		Scheme:           password.Scheme(s.Passwords.Scheme),
		Upgrade:          s.Passwords.Upgrade,
		BcryptTruncate72: s.Passwords.BcryptTruncate72,
		Logger:           p.Log,
		Metrics:          p.Metrics,
	})
	if err != nil {
		return daemon.Misused(err)
	}
	store, err := wiring.OpenStore(ctx, s.Database, "gatehouse-login", p.Log, p.Metrics, p.Tracing.Tracer())
	if err != nil {
		return daemon.Misused(err)
	}
	defer store.Close()
	registrar, err := newRegistrar(s, store, passwords, p.Log)
	if err != nil {
		return daemon.Misused(err)
	}
	mails, err := newMail(s, store)
	if err != nil {
		return daemon.Misused(err)
	}
	service, err := login.New(login.Options{
		ProjectName:       s.ProjectName,
		Accounts:          store,
		Sessions:          store,
		Directory:         store,
		Sweeper:           store,
		Companies:         store,
		Invitations:       store,
		Auditor:           store,
		Database:          store,
		Passwords:         passwords,
		Verifier:          verifier,
		Issuer:            issuer,
		Keys:              ring,
		SessionLifetime:   s.Tokens.SessionLifetime,
		RefreshIdle:       s.Tokens.RefreshTTL,
		DefaultCompany:    s.Companies.Default,
		AnyCompany:        s.Companies.JoinAny,
		InvitationRoles:   s.Companies.InvitationRoles,
		Hashes:            store,
		Chores:            chores(store, s.AuditRetention),
		LegacyTokensUntil: s.Tokens.LegacyUntil,
		TrustedProxies:    s.TrustedProxies,
		Registration: login.Registration{
			Registrar: registrar, Company: s.Companies.Default, CompanyName: s.Companies.DefaultName, Conceal: s.Registration.Conceal,
			Confirm: s.Registration.At == config.RegistrationPostgres,
		},
		Mail:     mails,
		Throttle: store,
		Budgets:  store,
		Limits: login.Limits{
			Login: s.Throttle.Login, User: s.Throttle.User, RegisterSource: s.Throttle.RegisterSource, Register: s.Throttle.Register,
			MailSource: s.Mail.Source, MailAddress: s.Mail.Address,
		},
		ThrottleSecret: throttleSecret(s),
		Unthrottled:    s.Throttle.Off,
		Spans:          login.Spans{Tracer: p.Tracing.Tracer(), Inherit: p.Tracing.FromHTTP},
		Logger:         p.Log,
		Metrics:        p.Metrics,
	})
	if err != nil {
		return err
	}

	signer, _ := ring.Keys().Signer()
	ring.OnChange(func(keys *token.KeySet) { // one call after the other
		if next, signs := keys.Signer(); signs && next.ID() != signer.ID() {
			service.SigningKeyChanged(context.WithoutCancel(ctx), signer.ID(), next.ID())
			signer = next
		}
	})

	// Before the first request, so that no refusal is ever answered from under a
	// floor that was not measured; prepare raises it to what the table holds.
	if err := passwords.Calibrate(ctx, password.LegacyBcryptCost); err != nil {
		return err
	}
	people, err := serve.Listen(ctx, s.Listen.Login.String())
	if err != nil {
		return err
	}
	defer func() { _ = people.Close() }()
	operations, err := serve.Listen(ctx, s.Listen.LoginOps.String())
	if err != nil {
		return err
	}
	defer func() { _ = operations.Close() }()
	if err := p.Announce(map[string]string{
		"login":     "http://" + serve.Address(people),
		"login_ops": "http://" + serve.Address(operations),
	}); err != nil {
		return err
	}

	var able atomic.Bool
	var farewell serve.Farewell
	// It ends after the last request, which is later than ctx: what requests are
	// answered while the service is drained belongs in the audit log as well.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if !prepare(background, p, store, passwords) {
			return
		}
		able.Store(true)
		p.Log.Info("ready")
		service.Sweep(background)
	})
	running.Go(func() { passwords.Settle(background) })
	running.Go(func() { service.Record(background) })
	running.Go(func() { ring.Run(background, p.Hangups) })
	running.Go(func() { wiring.WatchIssuers(background, book) })
	defer running.Wait() // before the store is closed
	defer stop()
	defer flush(service)
	defer service.Wait()
	ready := func() error {
		switch {
		case farewell.Said():
			return errors.New("stopping")
		case !able.Load():
			return errors.New("the database has not answered yet")
		}
		return nil
	}
	ops := p.Operations(ready)
	server := login.NewHTTPServer(farewell.Handler(besides(service.Handler(), ops)), p.Log)
	return serve.Run(ctx, p.Drain+stopGrace,
		serve.HTTP("operations", operations, health.NewServer(ops, p.Log)),
		serve.Drained(serve.HTTP("login", netutil.LimitListener(people, login.MaxConnections), server), p.Drain, func() {
			farewell.Say()
			service.Hurry()
			p.Log.Info("draining", "for", p.Drain.String())
		}),
	)
}

// readyPath is where the gate asks, on the port of the requests, whether this
// replica takes any (loginHealth in the package envoy): on that port it cannot be
// misled about which replica answers. It is no part of the service, and no route
// leads there.
const readyPath = "/readyz"

// besides is the service, with the readiness of the process beside it.
func besides(service, ops http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == readyPath {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			ops.ServeHTTP(w, r)
			return
		}
		service.ServeHTTP(w, r)
	})
}

// chores are what the database needs done every so often beside its sessions.
func chores(store *postgres.Store, retention time.Duration) []login.Chore {
	return []login.Chore{
		{Name: "refresh tokens", Every: time.Minute, Do: store.SweepRefreshTokens},
		{Name: "one-time tokens", Every: time.Minute, Do: store.SweepOneTimeTokens},
		{Name: "invitations", Every: time.Minute, Do: store.SweepInvitations},
		{Name: "audit log", Every: time.Hour, Do: func(ctx context.Context) (int, error) {
			did, err := store.TendAudit(ctx, retention)
			return did.Made + did.Dropped + did.Deleted, err
		}},
	}
}

// newRegistrar is nil where nobody can register.
func newRegistrar(s *config.Settings, store *postgres.Store, passwords *password.Hasher, log *slog.Logger) (login.Registrar, error) {
	switch s.Registration.At {
	case config.RegistrationPostgres:
		return login.RegisterAmong(store, passwords), nil
	case config.RegistrationSupabase:
		project, err := supabase.New(supabase.Options{
			URL: s.Supabase.URL, ServiceRoleKey: s.Supabase.ServiceRoleKey.Reveal(), EmailConfirm: s.Supabase.EmailConfirm,
		})
		if err != nil {
			return nil, err
		}
		return login.Redeeming(project, store, log), nil
	default:
		return nil, nil
	}
}

// throttleSecret keys what the throttle counts. It follows from a secret that all
// login services have and that whoever reads the database has not; with another
// one, everybody begins anew.
func throttleSecret(s *config.Settings) []byte {
	from := s.Tokens.Secret.Reveal() + s.Tokens.PrivateKey.Reveal()
	if from == "" {
		from = s.Database.URL.Reveal()
	}
	mac := hmac.New(sha256.New, []byte(from))
	mac.Write([]byte("gatehouse login throttle"))
	return mac.Sum(nil)
}

// prepare waits for the database, then measures what a refused password has to
// cost where the table holds dearer hashes than the usual ones: the floor under
// all refusals depends on the dearest.
func prepare(ctx context.Context, p *daemon.Process, store *postgres.Store, passwords *password.Hasher) bool {
	const poll = 250 * time.Millisecond
	for {
		cost, err := store.HighestBcryptCost(ctx)
		if err == nil && cost > password.LegacyBcryptCost {
			err = passwords.Calibrate(ctx, cost)
		}
		if err == nil {
			return true
		}
		p.Log.Debug("not ready yet", "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(poll):
		}
	}
}
