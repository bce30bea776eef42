package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"sigs.k8s.io/yaml"

	"github.com/atenex/gatehouse/internal/devstack"
)

// fleet is a gate with several authz behind one Envoy. They know nothing of each
// other; Envoy finds them as it does in a cluster, by a name with several
// addresses.
type fleet struct {
	*stack
	replicas []*replica
	// trusted is how long the gate may go on with what it heard last: the
	// documented bound for an allow after the commit that forbids it.
	trusted time.Duration
}

// replica is one authz: a stack whose settings, authz and gateway are its own. The
// gateway is a listener of the one Envoy that asks this replica alone.
type replica struct {
	*stack
	host    string // its address on loopback
	between *proxy // its way to PostgreSQL
}

const (
	poolName     = "gatehouse-authz"
	listenerName = "gatehouse-authz-listener"
)

// startFleet runs three replicas on a database, each with its own way there.
func startFleet(t *testing.T, database string, settings map[string]string) *fleet {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux listens on all of 127.0.0.0/8, and has /proc")
	}
	s := newStack(t, database, settings)
	f := &fleet{stack: s, trusted: time.Second}
	if set := s.settings["GATEWAY_PROOF_OF_LIFE"]; set != "" {
		var err error
		if f.trusted, err = time.ParseDuration(set); err != nil {
			t.Fatal(err)
		}
	}
	target, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(s.settings["GATEWAY_AUTHZ_LISTEN"])
	if err != nil {
		t.Fatal(err)
	}
	s.command("migrate")
	var hosts []string
	for n := range 3 {
		r := &replica{stack: s.in(t), host: fmt.Sprintf("127.0.0.%d", n+2), between: newProxy(t, target.Host)}
		way := *target
		way.Host = r.between.address
		r.settings = maps.Clone(s.settings)
		r.settings["GATEWAY_DATABASE_URL"] = way.String()
		r.settings["GATEWAY_AUTHZ_LISTEN"] = net.JoinHostPort(r.host, port)
		r.settings["GATEWAY_AUTHZ_OPS_LISTEN"] = freeAddress(t)
		r.authzOps = "http://" + r.settings["GATEWAY_AUTHZ_OPS_LISTEN"]
		r.authzLog = &record{}
		r.address = freeAddress(t)
		r.gateway = "http://" + r.address
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("authz at %s said last:\n%s", r.host, r.authzLog.tail(2000))
			}
		})
		r.startAuthz()
		f.replicas, hosts = append(f.replicas, r), append(hosts, r.host)
	}
	const name = "authz.fleet.test"
	s.settings["GATEWAY_AUTHZ_LISTEN"] = net.JoinHostPort(name, port)
	names := nameServer(t, name, hosts)
	s.startEnvoyWith(func(config []byte) []byte { return f.spread(config, name, names) })
	// Envoy is ready before it has asked authz for its health.
	for _, s := range append(f.views(t), s) {
		eventually(t, "the gate answers from authz", func() error { return s.get(strictRoute, nil).is(http.StatusUnauthorized) })
	}
	return f
}

// spread changes two things about a rendered configuration: names are asked for
// at our name server, and beside the listener of the gate stands one for each
// replica, the same but that it asks this replica alone. The rest is as shipped.
func (f *fleet) spread(rendered []byte, name, names string) []byte {
	f.t.Helper()
	var config any
	parse(f.t, rendered, &config)
	asked := 0
	walk(config, func(m map[string]any) {
		if kind, _ := m["@type"].(string); strings.HasSuffix(kind, ".DnsCluster") {
			m["typed_dns_resolver_config"] = map[string]any{
				"name": "envoy.network.dns_resolver.cares",
				"typed_config": map[string]any{
					"@type":     "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
					"resolvers": []any{map[string]any{"socket_address": socketAddress(f.t, names)}},
				},
			}
			asked++
		}
		listeners, ok := m["listeners"].([]any)
		clusters, _ := m["clusters"].([]any)
		if !ok {
			return
		}
		for _, r := range f.replicas {
			own := clusterOf(r)
			swap := strings.NewReplacer("name: authz\n", "name: "+own+"\n", "address: "+name+"\n", "address: "+r.host+"\n")
			cluster := f.like(clusters, "authz", swap)
			listener := f.like(listeners, "", swap)
			listener["name"] = own
			listener["address"] = map[string]any{"socket_address": socketAddress(f.t, r.address)}
			clusters, listeners = append(clusters, cluster), append(listeners, listener)
		}
		m["listeners"], m["clusters"] = listeners, clusters
	})
	if asked == 0 {
		f.t.Fatal("no cluster of the rendered configuration looks up a name")
	}
	out, err := yaml.Marshal(config)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// like copies the object of this name (empty: the only one) with other words.
func (f *fleet) like(all []any, name string, swap *strings.Replacer) map[string]any {
	f.t.Helper()
	for _, v := range all {
		m, ok := v.(map[string]any)
		if !ok || name != "" && m["name"] != name {
			continue
		}
		text, err := yaml.Marshal(m)
		if err != nil {
			f.t.Fatal(err)
		}
		var out map[string]any
		parse(f.t, []byte(swap.Replace(string(text))), &out)
		return out
	}
	f.t.Fatalf("the rendered configuration has no %q", name)
	return nil
}

func parse(t testing.TB, text []byte, out any) {
	t.Helper()
	if err := yaml.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
}

func socketAddress(t testing.TB, address string) map[string]any {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"address": host, "port_value": number}
}

// views are the replicas' stacks in the hands of a test.
func (f *fleet) views(t testing.TB) []*stack {
	t.Helper()
	var all []*stack
	for _, r := range f.replicas {
		all = append(all, r.in(t))
	}
	return all
}

// walk shows every object of a document.
func walk(v any, see func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		see(v)
		for _, inner := range v {
			walk(inner, see)
		}
	case []any:
		for _, inner := range v {
			walk(inner, see)
		}
	}
}

// nameServer answers for one name and returns its own address.
func nameServer(t *testing.T, name string, hosts []string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			q := m.Questions[0]
			if q.Type == dnsmessage.TypeA && strings.EqualFold(q.Name.String(), name+".") {
				for _, h := range hosts {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 5},
						Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(h).To4())},
					})
				}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	}()
	return c.LocalAddr().String()
}

// pending is how many checks Envoy waits for that it sent to the replica through
// its own listener.
func (f *fleet) pending(t testing.TB, r *replica) int {
	t.Helper()
	v, err := figure("http://"+f.settings["GATEWAY_ENVOY_ADMIN_LISTEN"]+"/stats/prometheus",
		`envoy_cluster_upstream_rq_active{envoy_cluster_name="`+clusterOf(r)+`"`)
	if err != nil {
		t.Fatal(err)
	}
	return int(v)
}

// clusterOf has no dots, which would end the name in Envoy's statistics.
func clusterOf(r *replica) string { return "authz-" + strings.ReplaceAll(r.host, ".", "-") }

func atLeast(got, want int) error {
	if got < want {
		return fmt.Errorf("%d, want at least %d", got, want)
	}
	return nil
}

// metric is a figure of a replica.
func (r *replica) metric(series string) (float64, error) {
	return figure(r.authzOps+"/metrics", series)
}

// figure is the sum of the series of a name on a page of metrics, or, with the
// beginning of the labels, of those that have them.
func figure(page, series string) (float64, error) {
	a, err := http.Get(page)
	if err != nil {
		return 0, err
	}
	defer func() { _ = a.Body.Close() }()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, series)
		if !ok || !strings.Contains(series, "{") && rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("no series %s", series)
	}
	return sum, nil
}

func (r *replica) mustMetric(t testing.TB, series string) float64 {
	t.Helper()
	v, err := r.metric(series)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// listens waits until the replica's memory is in use, or not.
func (r *replica) listens(t testing.TB, want bool) {
	t.Helper()
	figure := map[bool]float64{true: 1, false: 0}[want]
	eventually(t, fmt.Sprintf("listener_live of %s is %v", r.host, figure), func() error {
		v, err := r.metric("gatehouse_authz_revocation_listener_live")
		if err == nil && v != figure {
			err = fmt.Errorf("it is %v", v)
		}
		return err
	})
}

// remembers waits until the replicas answer a watch from memory: its questions
// bring hits and no misses any more.
func (f *fleet) remembers(t testing.TB, w *watch) {
	t.Helper()
	for _, r := range f.replicas {
		r.listens(t, true)
		hits := r.mustMetric(t, "gatehouse_authz_cache_hits_total")
		w.await(r.host+" answers from memory", func([]sighting) error {
			now, err := r.metric("gatehouse_authz_cache_hits_total")
			if err == nil && now < hits+3 {
				err = errors.New("no hits")
			}
			return err
		})
	}
}

// same fails the test if a replica is not the process that it was.
func (f *fleet) same(t testing.TB, before []*devstack.Process) {
	t.Helper()
	for i, r := range f.replicas {
		if r.authzProcess != before[i] || r.authzProcess.Err() != nil {
			t.Errorf("%s was restarted or has ended: %v", r.host, r.authzProcess.Err())
		}
	}
}

func (f *fleet) processes() []*devstack.Process {
	var all []*devstack.Process
	for _, r := range f.replicas {
		all = append(all, r.authzProcess)
	}
	return all
}
