package edge

import (
	"fmt"
	"net/netip"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Names in the rendering of Gatehouse.
const (
	authzCluster = "authz"
	filterAuthz  = "envoy.filters.http.ext_authz"
	filterRBAC   = "envoy.filters.http.rbac"
	strictRoute  = "query"
)

// defaults is ext_authz with nothing set that need not be.
func (l Listener) defaults() ([]*managerv3.HttpFilter, *clusterv3.Cluster, error) {
	address, err := netip.ParseAddrPort(l.Authz)
	if err != nil {
		return nil, nil, err
	}
	ask := filter(filterAuthz, &authzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			Timeout: durationpb.New(timeout),
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: l.Name,
			}},
		}},
	})
	return []*managerv3.HttpFilter{ask}, &clusterv3.Cluster{
		Name:                 l.Name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: l.Name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: socket(address.Addr().String(), uint32(address.Port())),
				}},
			}}}},
		},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(&httpv3.HttpProtocolOptions{
				UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
					ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
						ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
							Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
						},
					},
				},
			}),
		},
	}, nil
}

// recommended takes ext_authz, the demand for its mark, what a strict route tells
// them and the cluster of authz out of a rendering; the cluster gets the
// listener's name.
func (l Listener) recommended(ours *bootstrapv3.Bootstrap) ([]*managerv3.HttpFilter, map[string]*anypb.Any, *clusterv3.Cluster, error) {
	chain := ours.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()
	manager := &managerv3.HttpConnectionManager{}
	if err := chain[0].GetTypedConfig().UnmarshalTo(manager); err != nil {
		return nil, nil, nil, err
	}
	var filters []*managerv3.HttpFilter
	for _, f := range manager.GetHttpFilters() {
		switch f.GetName() {
		case filterAuthz:
			ask := &authzv3.ExtAuthz{}
			if err := f.GetTypedConfig().UnmarshalTo(ask); err != nil {
				return nil, nil, nil, err
			}
			ask.GetGrpcService().GetEnvoyGrpc().ClusterName = l.Name
			filters = append(filters, filter(filterAuthz, ask))
		case filterRBAC:
			filters = append(filters, f)
		}
	}
	if len(filters) != 2 {
		return nil, nil, nil, fmt.Errorf("%d of the filters %s and %s in the rendering", len(filters), filterAuthz, filterRBAC)
	}
	var words map[string]*anypb.Any
	for _, r := range manager.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		if r.GetName() == strictRoute {
			words = r.GetTypedPerFilterConfig()
		}
	}
	if words[filterAuthz] == nil {
		return nil, nil, nil, fmt.Errorf("the route %s tells authz nothing", strictRoute)
	}
	for _, c := range ours.GetStaticResources().GetClusters() {
		if c.GetName() == authzCluster {
			c.Name, c.LoadAssignment.ClusterName = l.Name, l.Name
			return filters, words, c, nil
		}
	}
	return nil, nil, nil, fmt.Errorf("no cluster %s in the rendering", authzCluster)
}
