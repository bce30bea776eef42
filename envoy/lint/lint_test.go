package lint_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/lint"
	"github.com/atenex/gatehouse/envoy/routes"
)

func rendering(t *testing.T, table string) *bootstrapv3.Bootstrap {
	t.Helper()
	routes, err := routes.Load(table)
	if err != nil {
		t.Fatal(err)
	}
	return render(t, routes)
}

func render(t *testing.T, routes routes.Table) *bootstrapv3.Bootstrap {
	t.Helper()
	s := envoy.DefaultSettings()
	s.AuthURL = "https://auth.test"
	b, err := envoy.Bootstrap(routes, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// small is a rendering that is read quickly, with one route of each kind.
func small(t *testing.T) *bootstrapv3.Bootstrap {
	t.Helper()
	routes, err := routes.Parse([]byte(`
upstreams: { query: {}, login: {}, auth: {} }
routes:
  - { name: login, path: /login, methods: [POST], mode: none, upstream: login, rate_limit: true }
  - { name: query, prefix: /api/v1/query, methods: [GET], mode: strict, upstream: query, websocket: true }
  - { name: auth, prefix: /api/v1/auth, methods: [GET], mode: none, upstream: auth }
`))
	if err != nil {
		t.Fatal(err)
	}
	return render(t, routes)
}

func check(t *testing.T, b *bootstrapv3.Bootstrap) lint.Report {
	t.Helper()
	text, err := envoy.YAML(b)
	if err != nil {
		t.Fatal(err)
	}
	report, err := lint.Check(text)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestOurOwnRenderingHasNoFindings(t *testing.T) {
	t.Parallel()
	for _, name := range routes.Shipped() {
		report := check(t, rendering(t, name))
		for _, f := range report.Findings {
			t.Errorf("%s: %+v", name, f)
		}
		table, _ := routes.Load(name)
		var want, got []string
		for _, r := range table.Routes {
			if r.Answer == nil && r.Mode == routes.None {
				want = append(want, r.Name)
			}
		}
		for _, o := range report.Open {
			got = append(got, o.Route)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: open routes %q, want %q", name, got, want)
		}
	}
}

// repack changes a message inside an Any.
func repack[M any, P interface {
	*M
	proto.Message
}](t *testing.T, packed *anypb.Any, change func(P)) {
	t.Helper()
	m := P(new(M))
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	change(m)
	if err := packed.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// on makes a change of a rendering out of a change of one of its messages.
func onManager(change func(*testing.T, *managerv3.HttpConnectionManager)) func(*testing.T, *bootstrapv3.Bootstrap) {
	return func(t *testing.T, b *bootstrapv3.Bootstrap) {
		t.Helper()
		repack(t, b.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig(),
			func(m *managerv3.HttpConnectionManager) { change(t, m) })
	}
}

func filterOf(t *testing.T, m *managerv3.HttpConnectionManager, name string) int {
	t.Helper()
	i := slices.IndexFunc(m.GetHttpFilters(), func(f *managerv3.HttpFilter) bool { return f.GetName() == "envoy.filters.http."+name })
	if i < 0 {
		t.Fatalf("no filter %s", name)
	}
	return i
}

func onAuthz(change func(*authzv3.ExtAuthz)) func(*testing.T, *bootstrapv3.Bootstrap) {
	return onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
		t.Helper()
		repack(t, m.GetHttpFilters()[filterOf(t, m, "ext_authz")].GetTypedConfig(), change)
	})
}

func onHost(change func(*testing.T, *routev3.VirtualHost)) func(*testing.T, *bootstrapv3.Bootstrap) {
	return onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
		t.Helper()
		change(t, m.GetRouteConfig().GetVirtualHosts()[0])
	})
}

func routeOf(t *testing.T, h *routev3.VirtualHost, name string) *routev3.Route {
	t.Helper()
	i := slices.IndexFunc(h.GetRoutes(), func(r *routev3.Route) bool { return r.GetName() == name })
	if i < 0 {
		t.Fatalf("no route %s", name)
	}
	return h.GetRoutes()[i]
}

func onCluster(name string, change func(*clusterv3.Cluster)) func(*testing.T, *bootstrapv3.Bootstrap) {
	return func(t *testing.T, b *bootstrapv3.Bootstrap) {
		t.Helper()
		for _, c := range b.GetStaticResources().GetClusters() {
			if c.GetName() == name {
				change(c)
				return
			}
		}
		t.Fatalf("no cluster %s", name)
	}
}

const (
	off     = "envoy.filters.http.ext_authz"
	manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
	chain   = manager + ".http_filters"
	authz   = chain + "[4].typed_config"
	host    = manager + ".route_config.virtual_hosts[0]"
)

func disabled(t *testing.T) *anypb.Any {
	t.Helper()
	return pack(t, &authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
}

func logTo(t *testing.T, path, format string) *accesslogv3.AccessLog {
	t.Helper()
	l := &filev3.FileAccessLog{Path: path}
	if format != "" {
		if err := protojson.Unmarshal([]byte(`{"path":"/dev/stdout","log_format":`+format+`}`), l); err != nil {
			t.Fatal(err)
		}
	}
	return &accesslogv3.AccessLog{Name: "file", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(t, l)}}
}

// TestEachRuleFindsWhatViolatesItAlone spoils our rendering in one way at a time.
func TestEachRuleFindsWhatViolatesItAlone(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{"unknown-field": true, "not-looked-into": true} // below
	cases := []struct {
		name  string
		spoil func(*testing.T, *bootstrapv3.Bootstrap)
		id    string
		where string // the beginning of it
	}{
		{"no ext_authz at all", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			i := filterOf(t, m, "ext_authz")
			m.HttpFilters = slices.Delete(m.HttpFilters, i, i+1)
		}), "no-authorization", manager},
		{"a second listener without it", func(t *testing.T, b *bootstrapv3.Bootstrap) {
			t.Helper()
			l, _ := proto.Clone(b.GetStaticResources().GetListeners()[0]).(*listenerv3.Listener)
			b.StaticResources.Listeners = append(b.StaticResources.Listeners, l)
			repack(t, l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig(), func(m *managerv3.HttpConnectionManager) {
				i := filterOf(t, m, "ext_authz")
				m.HttpFilters = slices.Delete(m.HttpFilters, i, i+1)
			})
		}, "listener-without-authorization", "static_resources.listeners[1]"},
		{"failure mode", onAuthz(func(a *authzv3.ExtAuthz) { a.FailureModeAllow = true }), "failure-mode-allow", authz},
		{"a disabled filter", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			m.HttpFilters[filterOf(t, m, "ext_authz")].Disabled = true
		}), "authorization-off", chain + "[4]"},
		{"a filter that may be missing", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			m.HttpFilters[filterOf(t, m, "ext_authz")].IsOptional = true
		}), "authorization-off", chain + "[4]"},
		{"a share of the requests", onAuthz(func(a *authzv3.ExtAuthz) {
			a.FilterEnabled = &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 99}}
		}), "authorization-off", authz},
		{"no RBAC", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			i := filterOf(t, m, "rbac")
			m.HttpFilters = slices.Delete(m.HttpFilters, i, i+1)
		}), "no-mark-demanded", chain + "[4]"},
		{"RBAC before it", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			i, j := filterOf(t, m, "ext_authz"), filterOf(t, m, "rbac")
			m.HttpFilters[i], m.HttpFilters[j] = m.HttpFilters[j], m.HttpFilters[i]
		}), "no-mark-demanded", chain},
		{"no metadata", onAuthz(func(a *authzv3.ExtAuthz) { a.EnableDynamicMetadataIngestion = wrapperspb.Bool(false) }), "metadata-not-taken", authz},
		{"an old API", onAuthz(func(a *authzv3.ExtAuthz) { a.TransportApiVersion = corev3.ApiVersion_AUTO }), "not-grpc", authz},
		{"HTTP", onAuthz(func(a *authzv3.ExtAuthz) {
			a.Services = &authzv3.ExtAuthz_HttpService{HttpService: &authzv3.HttpService{}}
		}), "not-grpc", authz},
		{"no time-out", onAuthz(func(a *authzv3.ExtAuthz) { a.GetGrpcService().Timeout = nil }), "no-timeout", authz + ".grpc_service"},
		{"a long time-out", onAuthz(func(a *authzv3.ExtAuthz) {
			a.GetGrpcService().Timeout = durationpb.New(time.Minute)
			a.GetGrpcService().RetryPolicy = nil
		}), "long-timeout", authz + ".grpc_service"},
		{"a short back-off", onAuthz(func(a *authzv3.ExtAuthz) {
			a.GetGrpcService().GetRetryPolicy().GetRetryBackOff().MaxInterval = durationpb.New(200 * time.Millisecond)
		}), "backoff-shortens-timeout", authz + ".grpc_service.retry_policy"},
		{"a short back-off by default", onAuthz(func(a *authzv3.ExtAuthz) {
			a.GetGrpcService().GetRetryPolicy().GetRetryBackOff().MaxInterval = nil
		}), "backoff-shortens-timeout", authz + ".grpc_service.retry_policy"},
		{"no status", onAuthz(func(a *authzv3.ExtAuthz) { a.StatusOnError = nil }), "status-on-error", authz},
		{"a cleared route", onAuthz(func(a *authzv3.ExtAuthz) { a.ClearRouteCache = true }), "route-cache-cleared", authz},
		{"bodies", onAuthz(func(a *authzv3.ExtAuthz) { a.WithRequestBody = &authzv3.BufferSettings{MaxRequestBytes: 8192} }), "body-sent-to-authz", authz},
		{"all headers", onAuthz(func(a *authzv3.ExtAuthz) { a.AllowedHeaders = nil }), "all-headers-sent", authz},
		{"no token", onAuthz(func(a *authzv3.ExtAuthz) { a.AllowedHeaders.Patterns = a.GetAllowedHeaders().GetPatterns()[1:] }), "authorization-not-sent", authz},
		{"no rules", onAuthz(func(a *authzv3.ExtAuthz) { a.DecoderHeaderMutationRules = nil }), "header-rules", authz},
		{"loose rules", onAuthz(func(a *authzv3.ExtAuthz) { a.DecoderHeaderMutationRules.AllowExpression.Regex = "x-.*" }), "header-rules", authz},
		{"tight rules", onAuthz(func(a *authzv3.ExtAuthz) { a.DecoderHeaderMutationRules.AllowExpression.Regex = "x-user-id" }), "identity-headers-blocked", authz},
		{"anything as a value", onAuthz(func(a *authzv3.ExtAuthz) { a.ValidateMutations = false }), "mutations-not-validated", authz},
		{"no early strip", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) { m.EarlyHeaderMutationExtensions = nil }), "identity-headers-not-stripped", manager},
		{"a plain strip", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			repack(t, m.EarlyHeaderMutationExtensions[0].GetTypedConfig(), func(h *earlyv3.HeaderMutation) {
				h.Mutations = nil
				for _, name := range []string{"x-user-id", "x-company-id", "x-user-email"} {
					h.Mutations = append(h.Mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
				}
			})
		}), "identity-spellings-not-stripped", manager},
		{"a late strip", onHost(func(_ *testing.T, h *routev3.VirtualHost) { h.RequestHeadersToRemove = []string{"X-User-ID"} }), "identity-headers-stripped-late", host},
		{"underscores", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) {
			m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
		}), "underscores", manager},
		{"paths as sent", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) { m.NormalizePath = nil }), "path-not-normalized", manager},
		{"slashes as sent", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) { m.MergeSlashes = false }), "slashes-not-merged", manager},
		{"escapes as sent", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) { m.PathWithEscapedSlashesAction = 0 }), "escaped-slashes", manager},
		{"an empty internal_address_config", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) {
			m.InternalAddressConfig = &managerv3.HttpConnectionManager_InternalAddressConfig{}
		}), "internal-addresses", manager},
		{"the client's word for its address", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) { m.UseRemoteAddress = nil }), "peer-not-client", manager},
		{"CORS too late", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			i, cors := filterOf(t, m, "cors"), m.HttpFilters[filterOf(t, m, "cors")]
			m.HttpFilters = slices.Delete(m.HttpFilters, i, i+1)
			m.HttpFilters = slices.Insert(m.HttpFilters, len(m.HttpFilters)-1, cors)
		}), "cors-behind-authorization", chain + "[5]"},
		{"a host that is open", onHost(func(t *testing.T, h *routev3.VirtualHost) { t.Helper(); h.TypedPerFilterConfig[off] = disabled(t) }), "open-everything", host},
		{"a host that is open by the other way to say so", onHost(func(t *testing.T, h *routev3.VirtualHost) {
			t.Helper()
			h.TypedPerFilterConfig[off] = pack(t, &routev3.FilterConfig{Disabled: true})
		}), "open-everything", host},
		{"everything else is open", onHost(func(t *testing.T, h *routev3.VirtualHost) {
			t.Helper()
			routeOf(t, h, "not-found").TypedPerFilterConfig[off] = disabled(t)
		}), "open-everything", host},
		{"a textual prefix", onHost(func(t *testing.T, h *routev3.VirtualHost) {
			t.Helper()
			routeOf(t, h, "auth").Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/api/v1/auth"}
		}), "open-prefix", host},
		{"an open route in front", onHost(func(t *testing.T, h *routev3.VirtualHost) {
			t.Helper()
			open, _ := proto.Clone(routeOf(t, h, "auth")).(*routev3.Route)
			open.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: "/api/v1/query"}}
			h.Routes = append([]*routev3.Route{open}, h.Routes...)
		}), "open-before-guarded", host + ".routes[0]"},
		{"a misspelt mode", onHost(func(t *testing.T, h *routev3.VirtualHost) {
			t.Helper()
			repack(t, routeOf(t, h, "query").TypedPerFilterConfig[off], func(p *authzv3.ExtAuthzPerRoute) {
				p.GetCheckSettings().ContextExtensions["auth_mode"] = "Strict"
			})
		}), "unknown-mode", host},
		{"filters of an upgrade", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) {
			m.UpgradeConfigs[0].Filters = []*managerv3.HttpFilter{m.HttpFilters[len(m.HttpFilters)-1]}
		}), "upgrade-filters", manager + ".upgrade_configs[0]"},
		{"a tunnel", onManager(func(_ *testing.T, m *managerv3.HttpConnectionManager) {
			m.UpgradeConfigs = append(m.UpgradeConfigs, &managerv3.HttpConnectionManager_UpgradeConfig{UpgradeType: "CONNECT"})
		}), "upgrade-type", manager + ".upgrade_configs[1]"},
		{"authz over HTTP/1", onCluster("authz", func(c *clusterv3.Cluster) { c.TypedExtensionProtocolOptions = nil }), "authz-cluster-http1", "static_resources.clusters[0]"},
		{"authz nowhere", onAuthz(func(a *authzv3.ExtAuthz) { a.GetGrpcService().GetEnvoyGrpc().ClusterName = "auhtz" }), "authz-cluster-missing", authz + ".grpc_service"},
		{"panic", onCluster("authz", func(c *clusterv3.Cluster) { c.CommonLbConfig = nil }), "authz-cluster-panic", "static_resources.clusters[0]"},
		{"a token in the log", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			m.AccessLog = append(m.AccessLog, logTo(t, "", `{"json_format":{"t":"%REQ(Authorization):10%"}}`))
		}), "secrets-logged", manager + ".access_log[1]"},
		{"a query in the log", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			m.AccessLog = append(m.AccessLog, logTo(t, "", `{"json_format":{"p":"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"}}`))
		}), "query-logged", manager + ".access_log[1]"},
		{"a log in text", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			m.AccessLog = append(m.AccessLog, logTo(t, "", `{"text_format_source":{"inline_string":"%START_TIME%\n"}}`))
		}), "text-log", manager + ".access_log[1]"},
		{"a log in Envoy's own text", onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
			t.Helper()
			m.AccessLog = append(m.AccessLog, logTo(t, "/dev/stdout", ""))
		}), "text-log", manager + ".access_log[1]"},
		{"a limit on nobody", onHost(func(t *testing.T, h *routev3.VirtualHost) {
			t.Helper()
			repack(t, routeOf(t, h, "login").TypedPerFilterConfig["envoy.filters.http.local_ratelimit"], func(l *ratelimitv3.LocalRateLimit) { l.FilterEnforced = nil })
		}), "rate-limit-not-enforced", host},
		{"a limit with a short memory", onHost(func(t *testing.T, h *routev3.VirtualHost) {
			t.Helper()
			repack(t, routeOf(t, h, "login").TypedPerFilterConfig["envoy.filters.http.local_ratelimit"], func(l *ratelimitv3.LocalRateLimit) { l.MaxDynamicDescriptors = nil })
		}), "rate-limit-forgets", host},
		{"TLS with anybody", onCluster("auth", func(c *clusterv3.Cluster) {
			_ = c.TransportSocket.GetTypedConfig().MarshalFrom(&tlsv3.UpstreamTlsContext{})
		}), "upstream-unverified", "static_resources.clusters[1].transport_socket"},
		{"TLS with any name", onCluster("auth", func(c *clusterv3.Cluster) {
			x := new(tlsv3.UpstreamTlsContext)
			_ = c.TransportSocket.GetTypedConfig().UnmarshalTo(x)
			x.GetCommonTlsContext().GetValidationContext().MatchTypedSubjectAltNames = nil
			_ = c.TransportSocket.GetTypedConfig().MarshalFrom(x)
		}), "upstream-unverified", "static_resources.clusters[1].transport_socket"},
		{"a public admin", func(_ *testing.T, b *bootstrapv3.Bootstrap) {
			b.GetAdmin().GetAddress().GetSocketAddress().Address = "0.0.0.0"
		}, "admin-open", "admin.address"},
	}
	for _, c := range cases {
		tested[c.id] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := small(t)
			c.spoil(t, b)
			report := check(t, b)
			if len(report.Findings) != 1 || report.Findings[0].ID != c.id || !strings.HasPrefix(report.Findings[0].Where, c.where) {
				t.Fatalf("found %+v, want %s at %s alone", report.Findings, c.id, c.where)
			}
			f := report.Findings[0]
			if f.Why == "" || f.Mend == "" || f.Found == "" || f.Line == 0 {
				t.Errorf("the finding says too little: %+v", f)
			}
			if report.Failed() != (f.Severity == lint.Error) {
				t.Errorf("failed: %v with severity %s", report.Failed(), f.Severity)
			}
		})
	}
	for _, r := range lint.Rules() {
		if !tested[r.ID] {
			t.Errorf("no case violates %s", r.ID)
		}
	}
}

func TestAStripByPrefixAndInAnyLetterCaseCounts(t *testing.T) {
	t.Parallel()
	b := small(t)
	onManager(func(t *testing.T, m *managerv3.HttpConnectionManager) {
		t.Helper()
		repack(t, m.EarlyHeaderMutationExtensions[0].GetTypedConfig(), func(h *earlyv3.HeaderMutation) {
			h.Mutations = []*mutationv3.HeaderMutation{{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
				RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
					MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "X"}, IgnoreCase: true,
				}},
			}}}
		})
	})(t, b)
	if report := check(t, b); len(report.Findings) != 0 {
		t.Errorf("%+v", report.Findings)
	}
}

func TestConfigurationsOfOthersAreRead(t *testing.T) {
	t.Parallel()
	text, err := envoy.YAML(small(t))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := protojson.MarshalOptions{}.Marshal(small(t).GetStaticResources().GetListeners()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, config string
		want         []string // ids
	}{
		{"a listener alone, in JSON and camel case", string(listener), nil},
		{"an answer of LDS", `{"version_info":"1","resources":[{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener",` + string(listener[1:]) + `]}`, nil},
		{"a config dump", `{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump","static_listeners":[{"listener":{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener",` + string(listener[1:]) + `}]}]}`, nil},
		{"a field that is not there", strings.Replace(string(text), "merge_slashes: true", "merge_slashes: true\n          normalise_path: true", 1), []string{"unknown-field"}},
		{"a filter that is not known here", strings.Replace(string(text), "http_filters:\n", "http_filters:\n          - name: x\n            typed_config: { \"@type\": type.googleapis.com/some.vendors.Filter, a: [1] }\n", 1), []string{"not-looked-into"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			report, err := lint.Check([]byte(c.config))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range report.Findings {
				got = append(got, f.ID)
			}
			if !slices.Equal(got, c.want) || len(report.Open) == 0 {
				t.Errorf("found %+v, want %q; %d open routes", report.Findings, c.want, len(report.Open))
			}
		})
	}
}

func TestWhatIsNoConfigurationIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "[]", "a", "\t{", "static_resources: 1", "{}", "static_resources: {listeners: [{name: 1}]}"} {
		if report, err := lint.Check([]byte(text)); err == nil {
			t.Errorf("%q: %+v, want an error", text, report)
		}
	}
}

// TestALineIsThatOfTheFile looks a finding up in the text.
func TestALineIsThatOfTheFile(t *testing.T) {
	t.Parallel()
	text, err := envoy.YAML(small(t))
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "max_interval: 2s", "max_interval: 1s", 1))
	report, err := lint.Check(text)
	if err != nil || len(report.Findings) != 1 {
		t.Fatalf("%+v %v", report.Findings, err)
	}
	if got := strings.Split(string(text), "\n")[report.Findings[0].Line-1]; strings.TrimSpace(got) != "retry_back_off:" {
		t.Errorf("line %d is %q", report.Findings[0].Line, got)
	}
}

// TestTheManualListsEveryRule keeps docs/envoy-lint.md true.
func TestTheManualListsEveryRule(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "envoy-lint.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, r := range lint.Rules() {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", r.ID, r.Severity, cell(r.Why), cell(r.Mend))
	}
	if !strings.Contains(string(manual), want.String()) {
		t.Errorf("the table of docs/envoy-lint.md is not the rules, which are:\n%s", want.String())
	}
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
