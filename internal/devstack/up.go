package devstack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atenex/gatehouse/internal/atomicfile"
)

// UpOptions describe one stack.
type UpOptions struct {
	// StateDir keeps the database, passwords and configuration from one run to
	// the next. It is made, for its owner alone, if need be.
	StateDir string
	// Listen is the public address, host:port; port 0 takes a free one.
	Listen string
	// AdminListen is Envoy's; empty takes a free port on loopback.
	AdminListen string
	// TLS says how the parts are asked where they speak it.
	TLS UpTLS
	// ReadyFile gets Ready as JSON once all is healthy, and is removed at the
	// end; empty: none. It holds the database's password.
	ReadyFile string
	// Find says where Envoy and PostgreSQL are.
	Find FindOptions
	// DatabaseURL is the database to use; empty starts a PostgreSQL.
	DatabaseURL string
	// Database is the name of the database on a PostgreSQL started here; empty
	// means atenex.
	Database string
	// DemoUpstreams starts two upstreams that echo what they receive.
	DemoUpstreams bool

	// Migrate brings the database up to date.
	Migrate func(ctx context.Context, databaseURL string) error
	// Seed, if set, fills it afterwards, at every start.
	Seed func(ctx context.Context, databaseURL string) error
	// Authz and Login are our own processes.
	Authz, Login Service
	// RenderEnvoy makes Envoy's bootstrap, as YAML or JSON, that is going to be
	// EnvoyConfig in the state directory.
	RenderEnvoy func(Addresses) ([]byte, error)
	// EnvoyArgs are added to Envoy's.
	EnvoyArgs []string
	// OnReady is told once all is healthy.
	OnReady func(Ready)

	// Output gets what the parts write, each line behind the part's name.
	Output io.Writer
	// StartLog is a file that gets what the parts write while they start and stop,
	// in the place of Output, which then gets only warnings and errors of our
	// services meanwhile. Empty: Output gets everything.
	StartLog string
	// Notice is told of progress, in words for a person.
	Notice func(string)
	// ReadyTimeout bounds the time from the last start of a part to health;
	// 0 means a minute.
	ReadyTimeout time.Duration
	// Force, when closed, ends a stop that takes too long: a second Ctrl-C.
	Force <-chan struct{}
}

// UpTLS is what Up needs to speak TLS to the parts, which are told of their
// certificates by their own settings. Each is called anew for each question, as
// certificates change.
type UpTLS struct {
	// Gateway, if set, has the gateway asked over https.
	Gateway func() (*tls.Config, error)
	// GatewayHost stands in Ready.Gateway for the public address, such as localhost;
	// empty: the address.
	GatewayHost string
	// Authz, if set, is how authz at an address is asked over TLS.
	Authz func(address string) (*tls.Config, error)
}

// Service is a process of ours. It is started with --ready-file FILE after its
// arguments, where it has to write, atomically and once it listens, a JSON
// object with its addresses under the names of Ready: authz_grpc and authz_ops,
// or login and login_ops.
type Service struct {
	Path string
	// Args must hold nothing secret.
	Args []string
	// Env is the whole environment, given the addresses known so far.
	Env func(Addresses) []string
}

// Addresses are where the parts are reached, as far as they are known: the
// database and the upstreams when a service is started, all but Envoy's bound
// ports when Envoy's configuration is rendered.
type Addresses struct {
	Database      string // URL, with its password
	Ingest, Query string // URLs of the demo upstreams, empty without them
	AuthzGRPC     string // host:port or unix:///path
	AuthzOps      string // URL
	Login         string // URL
	LoginOps      string // URL
	Public        string // Envoy's listen address, port 0 for a free one
	Admin         string // likewise
}

// Ready is where a healthy stack is reached.
type Ready struct {
	Gateway     string `json:"gateway"`
	AuthzGRPC   string `json:"authz_grpc"`
	AuthzOps    string `json:"authz_ops"`
	Login       string `json:"login"`
	LoginOps    string `json:"login_ops"`
	EnvoyAdmin  string `json:"envoy_admin"`
	DatabaseURL string `json:"database_url"`
}

// EnvoyConfig is the name of Envoy's bootstrap. YAML holds JSON, so the name is right
// either way.
const EnvoyConfig = "envoy.yaml"

const (
	defaultReadyTimeout = time.Minute
	defaultDatabase     = "atenex"
	// partPatience is what each part gets to stop, stackPatience all of them.
	partPatience  = 3 * time.Second
	stackPatience = 8 * time.Second
)

// ErrInterrupted is what Up returns if ctx ended before all was healthy.
var ErrInterrupted = errors.New("stopped before everything was ready")

// Up runs the whole stack until ctx ends, which is a clean end (nil), or a part
// dies, which is an error that names it. Whatever was started is stopped again
// when Up returns.
func Up(ctx context.Context, o UpOptions) error {
	// First of all, so that a second up harms nothing.
	if err := checkFree(o.Listen); err != nil {
		return err
	}
	stateDir, err := filepath.Abs(o.StateDir)
	if err != nil {
		return err
	}
	o.StateDir = stateDir
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	held, err := tryLock(filepath.Join(stateDir, "up.lock"))
	if errors.Is(err, errLocked) {
		return fmt.Errorf("another gatehouse up uses the state directory %s: end it, or name another one", stateDir)
	}
	if err != nil {
		return fmt.Errorf("locking the state directory: %w", err)
	}
	defer held.release()
	if o.ReadyFile != "" {
		if _, err := os.Stat(filepath.Dir(o.ReadyFile)); err != nil {
			return fmt.Errorf("the ready file's directory: %w", err)
		}
		// One that an earlier run left would be believed.
		if err := os.Remove(o.ReadyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the old ready file: %w", err)
		}
	}

	s := &stack{UpOptions: o, out: lines{to: o.Output}}
	s.at.Public, s.at.Admin = o.Listen, o.AdminListen
	if s.at.Admin == "" {
		s.at.Admin = "127.0.0.1:0"
	}
	if o.StartLog != "" {
		f, err := os.OpenFile(o.StartLog, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("the log of the start: %w", err)
		}
		defer f.Close()
		s.aside = f
		s.out.divert(f)
		if o.Notice != nil {
			o.Notice("what the parts write while they start and stop goes to " + o.StartLog)
		}
	}
	err = s.runUntil(ctx)
	if s.aside != nil {
		s.out.divert(s.aside)
		if o.Notice != nil {
			o.Notice("stopping")
		}
	}
	return errors.Join(err, s.stop(ctx))
}

// stack is one run of Up.
type stack struct {
	UpOptions
	group Group
	out   lines
	aside io.Writer // StartLog; nil: none
	at    Addresses
	ready Ready
}

// runUntil starts everything and waits for the end of ctx or of a part.
func (s *stack) runUntil(ctx context.Context) error {
	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	died := s.group.Died()
	go func() {
		select {
		case <-died:
			cancel(s.group.Failed())
		case <-starting.Done():
		}
	}()
	err := s.start(starting)
	if err != nil {
		// A part that died explains more than what failed for its lack.
		if failed := s.group.Failed(); failed != nil {
			err = failed
		} else if ctx.Err() != nil {
			err = ErrInterrupted
		}
		return err
	}
	if s.ReadyFile != "" {
		text, err := json.Marshal(s.ready)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(s.ReadyFile, append(text, '\n'), 0o600); err != nil {
			return fmt.Errorf("writing the ready file: %w", err)
		}
	}
	s.out.divert(nil)
	if s.OnReady != nil {
		s.OnReady(s.ready)
	}
	return s.group.Wait(ctx)
}

func (s *stack) stop(ctx context.Context) error {
	var faults []error
	if s.ReadyFile != "" {
		if err := os.Remove(s.ReadyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stackPatience)
	defer cancel()
	if s.Force != nil {
		go func() {
			select {
			case <-s.Force:
				cancel()
			case <-stopping.Done():
			}
		}()
	}
	return errors.Join(append(faults, s.group.Stop(stopping, partPatience))...)
}

// start brings up one part after the other, what can be done side by side so.
func (s *stack) start(ctx context.Context) error {
	var envoy Binary
	side, sideCtx := errgroup.WithContext(ctx)
	side.Go(func() (err error) {
		envoy, err = EnvoyBinary(sideCtx, s.find())
		return err
	})
	side.Go(func() error {
		if err := s.database(sideCtx); err != nil {
			return err
		}
		if err := s.upstreams(sideCtx); err != nil {
			return err
		}
		return s.services(sideCtx)
	})
	if err := side.Wait(); err != nil {
		return err
	}
	return s.envoy(ctx, envoy)
}

func (s *stack) find() FindOptions {
	f := s.Find
	if f.Notice == nil {
		f.Notice = s.Notice
	}
	return f
}

func (s *stack) database(ctx context.Context) error {
	s.at.Database = s.DatabaseURL
	if s.at.Database == "" {
		bin, err := PostgresBinaries(ctx, s.find())
		if err != nil {
			return err
		}
		p, err := StartPostgres(ctx, PostgresOptions{
			Bin: bin.Path, StateDir: s.StateDir, Output: s.out.prefixed("postgres"), Notice: s.Notice,
		})
		if err != nil {
			return fmt.Errorf("starting PostgreSQL %s: %w", bin.Version, err)
		}
		s.group.Add(p)
		name := s.Database
		if name == "" {
			name = defaultDatabase
		}
		if err := p.EnsureDatabase(ctx, name); err != nil {
			return err
		}
		s.at.Database = p.URL(name)
	}
	if err := s.Migrate(ctx, s.at.Database); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	if s.Seed != nil {
		if err := s.Seed(ctx, s.at.Database); err != nil {
			return fmt.Errorf("filling the database for the demo: %w", err)
		}
	}
	return nil
}

func (s *stack) upstreams(ctx context.Context) error {
	if !s.DemoUpstreams {
		return nil
	}
	for name, url := range map[string]*string{"ingest": &s.at.Ingest, "query": &s.at.Query} {
		u, err := startUpstream(ctx, name, Echo(name))
		if err != nil {
			return err
		}
		s.group.Add(u)
		*url = u.url
	}
	return nil
}

// loopback is how a listen address is reached from this machine.
func loopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
