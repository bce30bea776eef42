// Package edge writes the configuration of the one Envoy that all contenders stand
// behind: a listener each, with the same connection manager, the same router and
// the same upstream, so that only the authorisation between them differs.
//
// What Gatehouse recommends is not written here but taken out of its own
// rendering: a recommendation that got slower shows.
package edge

import (
	"errors"
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

// Style is how a listener asks its contender.
type Style int

const (
	// Open asks nobody: what Envoy, the load and the upstream cost without a check.
	Open Style = iota
	// Defaults is ext_authz as its documentation shows it.
	Defaults
	// Recommended is the filters, the route's words and the cluster of Gatehouse's
	// rendering.
	Recommended
	// Whole is the rendering as it is, everything in it. One listener alone can be
	// that.
	Whole
)

// Listener is one contender's.
type Listener struct {
	Name  string
	Style Style
	Authz string // host:port; none for Open
}

// upstream is the cluster that every request ends in, of the rendering: under its
// bounds on connections for all.
const upstream = "query"

// timeout of a check on the defaults, which are 200 ms: in a stall of the machine
// that would count as a failure of the contender. It costs nothing.
const timeout = 2 * time.Second

// Bootstrap is the configuration. Listeners and the admin page take free ports.
func Bootstrap(upstreamAddress string, listeners []Listener) (*bootstrapv3.Bootstrap, error) {
	whole := Listener{Authz: "127.0.0.1:1"}
	hasWhole := false
	for _, l := range listeners {
		if l.Style == Whole {
			if hasWhole {
				return nil, errors.New("two whole edges")
			}
			whole, hasWhole = l, true
		}
	}
	out, err := rendering(upstreamAddress, whole.Authz)
	if err != nil {
		return nil, err
	}
	static := out.GetStaticResources()
	static.Listeners[0].Name = whole.Name
	if !hasWhole {
		static.Listeners = nil
		static.Clusters = without(static.Clusters, authzCluster)
	}
	for _, l := range listeners {
		if l.Style == Whole {
			continue
		}
		rendered, cluster, err := l.render(upstreamAddress)
		if err != nil {
			return nil, fmt.Errorf("the listener %s: %w", l.Name, err)
		}
		static.Listeners = append(static.Listeners, rendered)
		if cluster != nil {
			static.Clusters = append(static.Clusters, cluster)
		}
	}
	return out, nil
}

// rendering is what `gatehouse envoy render` writes, for these addresses.
func rendering(upstreamAddress, authz string) (*bootstrapv3.Bootstrap, error) {
	table, err := routes.Load("prefix")
	if err != nil {
		return nil, err
	}
	s := envoy.DefaultSettings()
	s.Listen, s.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	s.Authz = authz
	s.IngestURL, s.QueryURL = "http://"+upstreamAddress, "http://"+upstreamAddress
	return envoy.Bootstrap(table, s)
}

func (l Listener) render(upstreamAddress string) (*listenerv3.Listener, *clusterv3.Cluster, error) {
	var filters []*managerv3.HttpFilter
	var words map[string]*anypb.Any
	var cluster *clusterv3.Cluster
	switch l.Style {
	case Open:
	case Defaults:
		var err error
		if filters, cluster, err = l.defaults(); err != nil {
			return nil, nil, err
		}
	case Recommended:
		ours, err := rendering(upstreamAddress, l.Authz)
		if err != nil {
			return nil, nil, err
		}
		if filters, words, cluster, err = l.recommended(ours); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, fmt.Errorf("style %d", l.Style)
	}
	filters = append(filters, filter("envoy.filters.http.router", &routerv3.Router{}))
	manager := &managerv3.HttpConnectionManager{
		StatPrefix:  l.Name,
		HttpFilters: filters,
		RouteSpecifier: &managerv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: l.Name,
			VirtualHosts: []*routev3.VirtualHost{{
				Name:                 l.Name,
				Domains:              []string{"*"},
				TypedPerFilterConfig: words,
				Routes: []*routev3.Route{{
					Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
					Action: &routev3.Route_Route{Route: &routev3.RouteAction{
						ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: upstream},
					}},
				}},
			}},
		}},
	}
	return &listenerv3.Listener{
		Name:    l.Name,
		Address: socket("127.0.0.1", 0),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(manager)},
		}}}},
	}, cluster, nil
}

func without(clusters []*clusterv3.Cluster, name string) []*clusterv3.Cluster {
	var out []*clusterv3.Cluster
	for _, c := range clusters {
		if c.GetName() != name {
			out = append(out, c)
		}
	}
	return out
}

func filter(name string, m proto.Message) *managerv3.HttpFilter {
	return &managerv3.HttpFilter{Name: name, ConfigType: &managerv3.HttpFilter_TypedConfig{TypedConfig: packed(m)}}
}

func socket(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// packed wraps a message that this package made, which always marshals.
func packed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}
