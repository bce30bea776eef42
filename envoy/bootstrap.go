package envoy

import (
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/atenex/gatehouse/envoy/routes"
)

// bufferLimit is the soft bound on what Envoy holds of one body in one
// direction. Above it the sender is made to wait, so an upload of any size
// passes through memory of this size.
const bufferLimit = 64 << 10

// Bootstrap joins the table and the settings into Envoy's configuration. Every
// message in it, those inside an Any included, has passed its own validation.
func Bootstrap(t routes.Table, s Settings) (*bootstrapv3.Bootstrap, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("route table: %w", err)
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	listen, err := parseListen(s.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen address: %w", err)
	}
	admin, err := parseListen(s.AdminListen)
	if err != nil {
		return nil, fmt.Errorf("admin listen address: %w", err)
	}
	manager, err := connectionManager(t, s)
	if err != nil {
		return nil, err
	}
	insecure, err := redirect(s)
	if err != nil {
		return nil, err
	}
	clusters, err := clusters(t, s)
	if err != nil {
		return nil, err
	}
	traces, err := tracesCluster(s)
	if err != nil {
		return nil, err
	}
	if traces != nil {
		clusters = append(clusters, traces)
	}
	b := &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: "gatehouse", Cluster: "gatehouse"},
		Admin:           adminInterface(admin),
		LayeredRuntime:  runtime(),
		OverloadManager: overload(s),
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: []*listenerv3.Listener{{
				Name:                          "edge",
				Address:                       listen,
				PerConnectionBufferLimitBytes: u32(bufferLimit),
				FilterChains: []*listenerv3.FilterChain{{
					TransportSocket: publicTLS(s),
					Filters: []*listenerv3.Filter{{
						Name:       "envoy.filters.network.http_connection_manager",
						ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)},
					}},
				}},
			}},
			Clusters: clusters,
		},
	}
	if insecure != nil {
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, insecure)
	}
	if err := validateDeep(b); err != nil {
		return nil, fmt.Errorf("the rendering is not valid: %w", err)
	}
	return b, nil
}

// adminInterface shows figures and lets an orchestrator drain; everything else
// that Envoy's admin can do (configuration dumps, log levels, exit) is refused
// even on loopback.
func adminInterface(address *corev3.Address) *bootstrapv3.Admin {
	return &bootstrapv3.Admin{
		Address:               address,
		IgnoreGlobalConnLimit: true,
		AllowPaths: []*matcherv3.StringMatcher{
			exactly("/ready"),
			exactly("/server_info"),
			startingWith("/stats"),
			startingWith("/clusters"),
			startingWith("/listeners"),
			exactly("/healthcheck/fail"),
			exactly("/healthcheck/ok"),
			startingWith("/drain_listeners"),
		},
	}
}

// largestExpression holds as many names of headers as a table may forward, all of
// them as long as may be: 43,000 instructions in Envoy 1.37 and 1.38, less than
// half of that since.
const largestExpression = 50_000

// runtime raises the bound on the size of regular expressions, whose default of
// 100 instructions a UUID and a long Vercel project name both exceed. All
// expressions come from this package; no client can add one.
func runtime() *bootstrapv3.LayeredRuntime {
	limits, err := structpb.NewStruct(map[string]any{
		"re2.max_program_size.error_level": largestExpression,
		"re2.max_program_size.warn_level":  largestExpression,
	})
	if err != nil {
		panic(err)
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name:           "gatehouse",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: limits},
	}}}
}

// overload makes Envoy refuse new work before the kernel kills it for its
// memory: first idle connections go sooner, then keep-alive ends, then requests
// are answered 503, and last no connection is taken.
func overload(s Settings) *overloadv3.OverloadManager {
	const heap = "envoy.resource_monitors.fixed_heap"
	above := func(share float64) []*overloadv3.Trigger {
		return []*overloadv3.Trigger{{
			Name:         heap,
			TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: share}},
		}}
	}
	return &overloadv3.OverloadManager{
		RefreshInterval: span(250 * time.Millisecond),
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			{
				Name: heap,
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: pack(
					&heapv3.FixedHeapConfig{MaxHeapSizeBytes: s.MemoryLimit})},
			},
			{
				Name: "envoy.resource_monitors.global_downstream_max_connections",
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: pack(
					&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: int64(s.MaxClients)})},
			},
		},
		Actions: []*overloadv3.OverloadAction{
			{Name: "envoy.overload_actions.shrink_heap", Triggers: above(0.90)},
			{
				Name: "envoy.overload_actions.reduce_timeouts",
				Triggers: []*overloadv3.Trigger{{
					Name: heap,
					TriggerOneof: &overloadv3.Trigger_Scaled{Scaled: &overloadv3.ScaledTrigger{
						ScalingThreshold: 0.85, SaturationThreshold: 0.95,
					}},
				}},
				TypedConfig: pack(&overloadv3.ScaleTimersOverloadActionConfig{
					TimerScaleFactors: []*overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer{{
						Timer: overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_IDLE,
						OverloadAdjust: &overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer_MinTimeout{
							MinTimeout: span(2 * time.Second),
						},
					}},
				}),
			},
			{Name: "envoy.overload_actions.disable_http_keepalive", Triggers: above(0.92)},
			{Name: "envoy.overload_actions.stop_accepting_requests", Triggers: above(0.95)},
		},
		LoadshedPoints: []*overloadv3.LoadShedPoint{
			{Name: "envoy.load_shed_points.tcp_listener_accept", Triggers: above(0.98)},
		},
	}
}

func percent(p float64) *typev3.Percent { return &typev3.Percent{Value: p} }
