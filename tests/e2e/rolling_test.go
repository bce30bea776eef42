package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/atenex/gatehouse/internal/devstack"
	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// A rollout is a gate with two replicas of authz and of login behind one Envoy,
// which finds them by their names, while they are replaced.
type rollout struct {
	*stack
	names *zone
	ports map[string]string // by service
	hosts int               // how many addresses were given out
}

// member is one replica.
type member struct {
	*stack
	service string
	host    string
	ops     string
	process *devstack.Process
	log     *record
}

// underLoad is for a gate with traffic all the time. A login every 100 ms is about the
// way to the hash, not about the hash, which as an upgrade would be argon2id.
var underLoad = map[string]string{"GATEWAY_LOG_LEVEL": "WARNING", "GATEWAY_PASSWORD_UPGRADE": "false"}

func startRollout(t *testing.T) (r *rollout, authz, login []*member) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux listens on all of 127.0.0.0/8")
	}
	r = &rollout{stack: newStack(t, postgrestest.New(t), underLoad), names: newZone(t), ports: map[string]string{}}
	r.command("migrate")
	for service, setting := range map[string]string{"authz": "GATEWAY_AUTHZ_LISTEN", "login": "GATEWAY_LOGIN_LISTEN"} {
		_, port, err := net.SplitHostPort(r.settings[setting])
		if err != nil {
			t.Fatal(err)
		}
		r.ports[service] = port
		r.settings[setting] = net.JoinHostPort(r.names.of(service), port)
	}
	for range 2 {
		authz, login = append(authz, r.launch("authz", r.newHost(), nil)), append(login, r.launch("login", r.newHost(), nil))
	}
	for _, m := range slices.Concat(authz, login) {
		m.await(m.service, m.ops+"/readyz")
		r.names.add(m.service, m.host)
	}
	r.startEnvoyWith(r.lookUp)
	for _, m := range slices.Concat(authz, login) {
		r.used(t, m)
	}
	return r, authz, login
}

func (r *rollout) newHost() string {
	r.hosts++
	return fmt.Sprintf("127.0.0.%d", r.hosts+1)
}

// lookUp lets a rendered configuration ask our name server. The rest of it is as
// shipped.
func (r *rollout) lookUp(rendered []byte) []byte {
	r.t.Helper()
	var config any
	parse(r.t, rendered, &config)
	walk(config, func(m map[string]any) {
		if kind, _ := m["@type"].(string); strings.HasSuffix(kind, ".DnsCluster") {
			m["typed_dns_resolver_config"] = map[string]any{
				"name": "envoy.network.dns_resolver.cares",
				"typed_config": map[string]any{
					"@type":     "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
					"resolvers": []any{map[string]any{"socket_address": socketAddress(r.t, r.names.address)}},
				},
			}
		}
	})
	out, err := yaml.Marshal(config)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// launch starts a replica as it is shipped, its drain included.
func (r *rollout) launch(service, host string, settings map[string]string) *member {
	t := r.t // it outlives the subtest that starts it
	t.Helper()
	m := &member{stack: r.in(t), service: service, host: host, log: &record{}}
	m.settings = maps.Clone(r.settings)
	maps.Copy(m.settings, settings)
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	name := "GATEWAY_" + strings.ToUpper(service)
	m.settings[name+"_LISTEN"] = net.JoinHostPort(host, r.ports[service])
	m.settings[name+"_OPS_LISTEN"] = net.JoinHostPort(host, port)
	m.ops = "http://" + m.settings[name+"_OPS_LISTEN"]
	m.process = m.start(service+" at "+host, filepath.Join(binaries, service), nil, m.log)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s at %s said last:\n%s", service, host, m.log.tail(1500))
		}
	})
	return m
}

// health is what Envoy thinks of a replica, such as "healthy".
func (r *rollout) health(m *member) (string, error) {
	page, err := http.Get("http://" + r.settings["GATEWAY_ENVOY_ADMIN_LISTEN"] + "/clusters")
	if err != nil {
		return "", err
	}
	defer func() { _ = page.Body.Close() }()
	text, err := readAll(page.Body)
	if err != nil {
		return "", err
	}
	begin := m.service + "::" + m.host + ":" + r.ports[m.service] + "::health_flags::"
	for line := range strings.Lines(text) {
		if flags, ok := strings.CutPrefix(line, begin); ok {
			return strings.TrimSpace(flags), nil
		}
	}
	return "unknown", nil
}

// used waits until Envoy sends requests to a replica: what a rollout has to wait
// for before it takes away the next.
func (r *rollout) used(t testing.TB, m *member) {
	t.Helper()
	eventually(t, m.service+" at "+m.host+" is used", func() error {
		got, err := r.health(m)
		if err == nil && got != "healthy" {
			err = errors.New(got)
		}
		return err
	})
}

// stop asks replicas to end and waits until they have.
func (r *rollout) stop(t testing.TB, members ...*member) {
	t.Helper()
	for _, m := range members {
		if err := m.process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range members {
		select {
		case <-m.process.Done():
		case <-time.After(patience):
			t.Fatalf("%s at %s does not end", m.service, m.host)
		}
		if said := m.process.Err().Error(); !strings.Contains(said, "exit status 0") {
			t.Errorf("%s", said)
		}
	}
}

// replace ends a replica and starts the next in its place, or at another address.
func (r *rollout) replace(t testing.TB, moves bool, old ...*member) []*member {
	t.Helper()
	for _, m := range old {
		if moves {
			r.names.remove(m.service, m.host)
		}
	}
	r.stop(t, old...)
	var all []*member
	for _, m := range old {
		host := m.host
		if moves {
			host = r.newHost()
		}
		all = append(all, r.launch(m.service, host, nil))
	}
	for _, m := range all {
		m.await(m.service, m.ops+"/readyz")
		if moves {
			r.names.add(m.service, m.host)
		}
	}
	for _, m := range all {
		r.used(t, m)
	}
	return all
}

// Every replica of both services is replaced, in its place and by one elsewhere,
// the database is migrated in between, and one of each is killed: the clients of
// the gate see nothing of it but, of the one login that is killed, what it had
// under way.
func TestReplicasAreReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	r, authz, login := startRollout(t)
	// What Envoy asks login for is for Envoy alone.
	r.get("/readyz", nil).want(t, http.StatusNotFound, "Not Found")
	l := r.load(t)
	l.flows()

	t.Run("one after the other, at the same addresses", func(t *testing.T) {
		replaced := r.replace(t, false, authz[0], login[0])
		authz[0], login[0] = replaced[0], replaced[1]
		// As the Job of a new version does while replicas of the old one run.
		r.command("migrate")
		l.unharmed(t)
	})
	t.Run("at other addresses", func(t *testing.T) {
		replaced := r.replace(t, true, authz[1], login[1])
		authz[1], login[1] = replaced[0], replaced[1]
		l.unharmed(t)
	})
	t.Run("an authz that is killed costs nothing", func(t *testing.T) {
		r.kill(authz[0].process)
		r.unused(t, authz[0])
		l.flows()
		l.unharmed(t)
	})
	t.Run("one that starts while it cannot reach PostgreSQL gets no requests", func(t *testing.T) {
		way := newProxyTo(r.t, r.database)
		way.freeze()
		m := r.launch("authz", authz[0].host, map[string]string{"GATEWAY_DATABASE_URL": way.url})
		eventually(t, "it runs", m.unready)
		l.flows()
		r.unused(t, m)
		if err := m.unready(); err != nil {
			t.Error(err)
		}
		way.thaw()
		r.used(t, m)
		l.flows()
		l.unharmed(t)
	})
	t.Run("a login that is killed costs what it had under way", func(t *testing.T) {
		r.kill(login[0].process)
		r.unused(t, login[0])
		l.flows()
		l.harmed(t, "login")
	})
	l.end()
	l.unharmed(t)
}

// unused waits until Envoy sends nothing to a replica any more.
func (r *rollout) unused(t testing.TB, m *member) {
	t.Helper()
	eventually(t, m.service+" at "+m.host+" is not used", func() error {
		got, err := r.health(m)
		if err == nil && !strings.Contains(got, "failed") {
			err = errors.New(got)
		}
		return err
	})
}

// unready asks a process whether it is ready, and returns nil if it says no.
func (m *member) unready() error {
	a, err := http.Get(m.ops + "/readyz")
	if err != nil {
		return err
	}
	_ = a.Body.Close()
	if a.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("readyz: %s, want 503", a.Status)
	}
	return nil
}
