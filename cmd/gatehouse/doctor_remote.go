package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres"
)

// hasDatabase reports that the settings name a server, which `up` then uses
// instead of one of its own.
func hasDatabase(s *config.Settings) bool {
	return s.IsSet("DATABASE_URL") || s.IsSet("POSTGRES_SERVER")
}

// database tells whether it answers, how far it is migrated and how many users
// and companies it holds.
func (r *findings) database(ctx context.Context, s *config.Settings) {
	const area = "database"
	if !hasDatabase(s) {
		r.add(area, markWarn, "none configured; 'gatehouse up' starts one of its own, the services by themselves ask localhost:5432")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*checkTimeout)
	defer cancel()
	started := time.Now()
	status, err := postgres.Status(ctx, s.Database.URL.Reveal())
	if err != nil {
		r.add(area, markFail, "%v", err)
		return
	}
	r.add(area, markOK, "PostgreSQL %s answers (in %s)", status.Server, time.Since(started).Round(time.Millisecond))
	switch {
	case len(status.Missing) > 0:
		r.add(area, markFail, "at version %d of %d, but tables are missing: %v", status.Version, status.Latest, status.Missing)
		return
	case status.Version > status.Latest:
		r.add(area, markFail, "at version %d, newer than this release's %d", status.Version, status.Latest)
		return
	case len(status.Pending) > 0:
		r.add(area, markFail, "at version %d of %d; run 'gatehouse migrate'", status.Version, status.Latest)
		return
	}
	r.add(area, markOK, "migrated: version %d of %d, in the schema %s", status.Version, status.Latest, status.Schema)
	if len(status.Broken) > 0 {
		// Nothing is served wrongly meanwhile where authz knows of it: it then asks the
		// database on every check, and says so in its log.
		r.add(area, markFail, "triggers, functions or partitions of ours are not as they were made, so changes may go unannounced, addresses stay verified "+
			"that are others by now, the audit log be altered, or logins end with its last month; run 'gatehouse migrate' to put them back\n%s", listed(status.Broken))
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: s.Database.URL.Reveal(), MaxConns: 1, AppName: appName})
	if err != nil {
		r.add(area, markFail, "%v", err)
		return
	}
	defer store.Close()
	users, more, err := store.ListUsers(ctx, postgres.MostUsers, "")
	if err != nil {
		r.add(area, markFail, "%v", err)
		return
	}
	companies, err := store.ListCompanies(ctx)
	if err != nil {
		r.add(area, markFail, "%v", err)
		return
	}
	atLeast := ""
	if more != "" {
		atLeast = "more than "
	}
	r.add(area, markOK, "users: %s%d, companies: %d", atLeast, len(users), len(companies))
}

// listed puts one a line.
func listed[T fmt.Stringer](list []T) string {
	lines := make([]string, 0, len(list))
	for _, item := range list {
		lines = append(lines, item.String())
	}
	return strings.Join(lines, "\n")
}

// ports tells of every address whether it is free or who is there. A part whose
// address is not set is looked for at the one that `up` gave it, where one runs.
func (r *findings) ports(ctx context.Context, s *config.Settings, beside besideUp, running bool) {
	for _, p := range parts(s) {
		address, whose := p.address, ""
		if at, found := beside.address(p.setting); found && !s.IsSet(p.setting) {
			address, whose = at, ", of the 'gatehouse up' that runs"
		}
		asked, cancel := context.WithTimeout(ctx, checkTimeout)
		err := p.ask(asked, address)
		cancel()
		// `up` takes free ports for all but the public one, unless they are set.
		inTheWay := markWarn
		if p.setting == "LISTEN" || s.IsSet(p.setting) {
			inTheWay = markFail
		}
		switch {
		case err == nil:
			r.add(p.name, markOK, "answers on %s%s", address, whose)
		case running:
			r.add(p.name, markFail, "%s%s: %v", address, whose, err)
		case whose != "":
			r.add(p.name, markWarn, "%s%s: %v", address, whose, err)
		case errors.Is(err, errNobody):
			r.bindable(ctx, p.name, address, inTheWay)
		default:
			r.add(p.name, inTheWay, "%s is taken: %v", address, err)
		}
	}
}

// part is one of those that listen.
type part struct {
	name, setting string
	address       config.Address
	ask           func(context.Context, config.Address) error
}

func parts(s *config.Settings) []part {
	return []part{
		{"envoy", "LISTEN", s.Listen.Public, askEdge(s)},
		{"envoy admin", "ENVOY_ADMIN_LISTEN", s.Listen.EnvoyAdmin, askHTTP("/ready")},
		{"authz", "AUTHZ_LISTEN", s.Listen.Authz, askAuthz(s)},
		{"authz operations", "AUTHZ_OPS_LISTEN", s.Listen.AuthzOps, askHTTP("/readyz")},
		{"login", "LOGIN_LISTEN", s.Listen.Login, askHTTP("/health")},
		{"login operations", "LOGIN_OPS_LISTEN", s.Listen.LoginOps, askHTTP("/readyz")},
	}
}

// bindable tells whether we could listen where nobody does.
func (r *findings) bindable(ctx context.Context, name string, a config.Address, otherwise mark) {
	if a.IsUnix() {
		r.add(name, markOK, "%s is free", a)
		return
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.String())
	if err != nil {
		r.add(name, otherwise, "%s cannot be listened on: %v", a, err)
		return
	}
	_ = l.Close()
	r.add(name, markOK, "%s is free", a)
}

// errNobody tells an address that is free from one with something else on it.
var errNobody = errors.New("nothing listens there")

// nobody puts errNobody in the place of what a refused connection looks like.
func nobody(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return errNobody
	}
	return err
}

// dialable is an address to reach a listener of this machine by.
func dialable(a config.Address) string {
	if ip := net.ParseIP(a.Host); a.Host == "" || ip != nil && ip.IsUnspecified() {
		a.Host = "127.0.0.1"
	}
	return a.String()
}

// askEdge asks Envoy, over https if that is what it serves.
func askEdge(s *config.Settings) func(context.Context, config.Address) error {
	if s.TLS.CertFile == "" {
		return askHTTP("/health")
	}
	return func(ctx context.Context, a config.Address) error {
		over, err := edgeClient(s)
		if err != nil {
			return err
		}
		return askPage(ctx, a, "/health", over)
	}
}

// askHTTP asks a page that every part of ours has.
func askHTTP(path string) func(context.Context, config.Address) error {
	return func(ctx context.Context, a config.Address) error { return askPage(ctx, a, path, nil) }
}

// askPage asks in the clear without a configuration of TLS.
func askPage(ctx context.Context, a config.Address, path string, over *tls.Config) error {
	if a.Port == 0 {
		return errNobody
	}
	scheme := "http://"
	if over != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+dialable(a)+path, nil)
	if err != nil {
		return err
	}
	client := &http.Client{
		// No proxy: the question is to this machine.
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: over},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return nobody(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusOK && (path != "/health" || isHealth(body)) {
		return nil
	}
	return fmt.Errorf("GET %s answers %d", path, res.StatusCode)
}

// isHealth tells our /health from that of another program on the port.
func isHealth(body []byte) bool {
	var health struct {
		Status string                     `json:"status"`
		Checks map[string]json.RawMessage `json:"checks"`
	}
	return json.Unmarshal(body, &health) == nil && health.Status == "healthy" && health.Checks["database_connection"] != nil
}

// askAuthz asks authz as Envoy does.
func askAuthz(s *config.Settings) func(context.Context, config.Address) error {
	return func(ctx context.Context, a config.Address) error {
		if s.TLS.ToAuthz.CAFile == "" {
			return askGRPC(ctx, a, func(address string) error { return devstack.GRPCHealth(ctx, address) })
		}
		over, err := authzClient(s, a.Host)
		if err != nil {
			return err
		}
		return askGRPC(ctx, a, func(address string) error { return devstack.GRPCHealthTLS(ctx, address, over) })
	}
}

// askGRPC asks by the gRPC health protocol. The connection before it tells
// an address on which nobody listens, which gRPC's errors do not.
func askGRPC(ctx context.Context, a config.Address, health func(string) error) error {
	if !a.IsUnix() && a.Port == 0 {
		return errNobody
	}
	network, target := "unix", a.Path
	if !a.IsUnix() {
		network, target = "tcp", dialable(a)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, target)
	if err != nil {
		return nobody(err)
	}
	_ = conn.Close()
	return health(dialable(a))
}
