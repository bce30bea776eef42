package edge

import (
	"os"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/internal/devstack"
)

func all() []Listener {
	return []Listener{
		{Name: "noop", Style: Defaults, Authz: "127.0.0.1:7001"},
		{Name: "ours", Style: Recommended, Authz: "127.0.0.1:7002"},
		{Name: "whole-edge", Style: Whole, Authz: "127.0.0.1:7003"},
		{Name: "open", Style: Open},
	}
}

func TestEnvoyTakesTheConfiguration(t *testing.T) {
	binary, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		listeners []Listener
	}{
		{"every style side by side", all()},
		{"only replicas of ours", []Listener{{Name: "replica-1", Style: Recommended, Authz: "127.0.0.1:7001"}, {Name: "replica-2", Style: Recommended, Authz: "127.0.0.1:7002"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Bootstrap("127.0.0.1:7000", tt.listeners)
			if err != nil {
				t.Fatal(err)
			}
			text, err := envoy.YAML(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := envoy.Validate(t.Context(), binary.Path, text); err != nil {
				t.Error(err)
			}
		})
	}
}

// The comparison is honest as long as each asks its own server, in its own way,
// and all end in the same place.
func TestEachListenerAsksItsOwn(t *testing.T) {
	b, err := Bootstrap("127.0.0.1:7000", all())
	if err != nil {
		t.Fatal(err)
	}
	clusters := map[string]*clusterv3.Cluster{}
	for _, c := range b.GetStaticResources().GetClusters() {
		if clusters[c.GetName()] != nil {
			t.Errorf("two clusters %s", c.GetName())
		}
		clusters[c.GetName()] = c
	}
	tests := []struct {
		listener string
		filters  string
		cluster  string // "": asks nobody
		port     uint32
		headers  bool // only the allowed ones are sent
	}{
		{"noop", "ext_authz router", "noop", 7001, false},
		{"ours", "ext_authz rbac router", "ours", 7002, true},
		{"open", "router", "", 0, false},
		{"whole-edge", "answers cors local_ratelimit fault ext_authz rbac router", "authz", 7003, true},
	}
	for _, tt := range tests {
		t.Run(tt.listener, func(t *testing.T) {
			m := managerOf(t, b.GetStaticResources().GetListeners(), tt.listener)
			ask := &authzv3.ExtAuthz{}
			var filters []string
			for _, f := range m.GetHttpFilters() {
				filters = append(filters, f.GetName()[strings.LastIndexByte(f.GetName(), '.')+1:])
				if f.GetName() == filterAuthz {
					if err := f.GetTypedConfig().UnmarshalTo(ask); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := strings.Join(filters, " "); got != tt.filters {
				t.Errorf("filters %s, want %s", got, tt.filters)
			}
			if tt.cluster == "" {
				return
			}
			if got := ask.GetGrpcService().GetEnvoyGrpc().GetClusterName(); got != tt.cluster {
				t.Errorf("asks the cluster %s, want %s", got, tt.cluster)
			}
			if got := ask.GetGrpcService().GetTimeout().AsDuration(); got < time.Second {
				t.Errorf("a time-out of %v would count a stall as a failure", got)
			}
			if got := ask.GetAllowedHeaders() != nil; got != tt.headers {
				t.Errorf("allowed headers set: %v, want %v", got, tt.headers)
			}
			endpoint := clusters[tt.cluster].GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint()
			if got := endpoint.GetAddress().GetSocketAddress().GetPortValue(); got != tt.port {
				t.Errorf("the cluster's port is %d, want %d", got, tt.port)
			}
		})
	}
}

func TestOnlyOneEdgeIsWhole(t *testing.T) {
	twice := []Listener{{Name: "a", Style: Whole, Authz: "127.0.0.1:7001"}, {Name: "b", Style: Whole, Authz: "127.0.0.1:7002"}}
	if b, err := Bootstrap("127.0.0.1:7000", twice); err == nil {
		t.Errorf("Bootstrap = %v, want an error", b)
	}
}

func managerOf(t *testing.T, listeners []*listenerv3.Listener, name string) *managerv3.HttpConnectionManager {
	t.Helper()
	for _, l := range listeners {
		if l.GetName() == name {
			m := &managerv3.HttpConnectionManager{}
			if err := l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(m); err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
	t.Fatalf("no listener %s", name)
	return nil
}
