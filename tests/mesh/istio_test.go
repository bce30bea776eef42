package mesh

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

// There is no istiod here. TestIstio reads the recipe as Istio's translator does
// (pilot/pkg/security/authz/builder, pilot/pkg/networking/core, as of August
// 2026), as far as the recipe goes, and runs what comes out on the real Envoy.
func TestIstio(t *testing.T) {
	t.Parallel()
	g := newIstioGate(t, true)
	g.settled(t).keeps(t)
}

// Where an EnvoyFilter is not to be had, the check is the same, and what else is
// lost is what docs/meshes.md says.
func TestIstioWithoutItsEnvoyFilter(t *testing.T) {
	t.Parallel()
	g := newIstioGate(t, false)
	g.undecided = refusal{status: http.StatusServiceUnavailable}
	g.unmarked = true
	g.passing = otherSpellings
	g.settled(t).keeps(t)
}

func newIstioGate(t testing.TB, filtered bool) *gate {
	t.Helper()
	g := &gate{
		authz:  startDecider(t, freeAddress(t), "GATEWAY_ROUTE_SOURCE=path"),
		ingest: newUpstream(t), login: newUpstream(t),
		undecided: unavailable,
	}
	config := istiod(t, filtered)
	settle(t, config, map[string]string{
		"outbound|9191||gatehouse-authz.gatehouse.svc.cluster.local": g.authz.address,
		"outbound|8081||gatehouse-login.gatehouse.svc.cluster.local": g.login.address,
		"outbound|8001||ingest.gatehouse.svc.cluster.local":          g.ingest.address,
		"outbound|8002||query.gatehouse.svc.cluster.local":           newUpstream(t).address,
	})
	g.dial = dialing(runEnvoy(t, config))
	return g
}

const (
	typeOf      = "type.googleapis.com/envoy.extensions.filters."
	corsFilter  = "envoy.filters.http.cors"
	authzFilter = "envoy.filters.http.ext_authz"
)

// istiod is the configuration of an ingress gateway as Istio would make it of
// the recipe, with its EnvoyFilter or without.
func istiod(t testing.TB, filtered bool) object {
	t.Helper()
	var mesh object
	if err := yaml.Unmarshal(recipe(t, "istio/meshconfig.yaml"), &mesh); err != nil {
		t.Fatal(err)
	}
	mesh = at(t, mesh, "meshConfig").(object)
	manager := object{
		"@type":       typeOf + "network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "outbound_0.0.0.0_8080", "use_remote_address": true,
		"upgrade_configs": []any{object{"upgrade_type": "websocket"}},
		"normalize_path":  true, "path_with_escaped_slashes_action": "KEEP_UNCHANGED", "stream_idle_timeout": "0s",
	}
	if at(t, mesh, "pathNormalization", "normalization") != "MERGE_SLASHES" {
		t.Fatal("the reading of pathNormalization is for MERGE_SLASHES")
	}
	manager["merge_slashes"] = true
	var clusters []any
	var routes []any
	for _, h := range at(t, one(t, "istio/gateway.yaml", "VirtualService", "api"), "spec", "http").([]any) {
		cluster := outbound(t, at(t, h, "route", 0, "destination"))
		clusters = append(clusters, clusterNamed(cluster))
		for _, m := range at(t, h, "match").([]any) {
			r := object{"match": uri(t, at(t, m, "uri")), "route": object{"cluster": cluster, "timeout": "0s"}}
			if headers, there := h.(object)["headers"]; there {
				r["request_headers_to_remove"] = at(t, headers, "request", "remove")
			}
			r["typed_per_filter_config"] = object{corsFilter: corsPolicy(t, at(t, h, "corsPolicy"))}
			routes = append(routes, r)
		}
	}
	manager["route_config"] = object{"name": "http.80", "virtual_hosts": []any{
		object{"name": host + ":80", "domains": []any{host, host + ":*"}, "routes": routes},
	}}
	filters, authz := custom(t, mesh)
	manager["http_filters"] = append(filters,
		object{"name": corsFilter, "typed_config": object{"@type": typeOf + "http.cors.v3.Cors"}},
		object{"name": "envoy.filters.http.router", "typed_config": object{"@type": typeOf + "http.router.v3.Router"}},
	)
	clusters = append(clusters, authz)
	if filtered {
		manager = patched(t, manager)
	}
	return object{
		"admin": object{"address": object{"socket_address": object{}}},
		"static_resources": object{
			"clusters": clusters,
			"listeners": []any{object{
				"name":    "0.0.0.0_8080",
				"address": object{"socket_address": object{}},
				"filter_chains": []any{object{"filters": []any{object{
					"name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
				}}}},
			}},
		},
	}
}

func outbound(t testing.TB, destination any) string {
	t.Helper()
	return fmt.Sprintf("outbound|%v||%v", at(t, destination, "port", "number"), at(t, destination, "host"))
}

func clusterNamed(name string) object {
	return object{"name": name, "type": "STATIC", "connect_timeout": "10s", "load_assignment": object{
		"cluster_name": name,
		"endpoints":    []any{object{"lb_endpoints": []any{object{"endpoint": object{"address": object{"socket_address": object{}}}}}}},
	}}
}

// uri is a prefix as it is written: Istio separates none by paths, save for
// Ingress and Gateway API.
func uri(t testing.TB, m any) object {
	t.Helper()
	if prefix, there := m.(object)["prefix"]; there {
		return object{"prefix": prefix}
	}
	return object{"path": at(t, m, "exact")}
}

func corsPolicy(t testing.TB, in any) object {
	t.Helper()
	list := func(name string) string {
		var out []string
		for _, v := range at(t, in, name).([]any) {
			out = append(out, fmt.Sprint(v))
		}
		return strings.Join(out, ",")
	}
	return object{
		"@type":                     typeOf + "http.cors.v3.CorsPolicy",
		"allow_origin_string_match": at(t, in, "allowOrigins"),
		"allow_methods":             list("allowMethods"), "allow_headers": list("allowHeaders"), "expose_headers": list("exposeHeaders"),
		"allow_credentials":               at(t, in, "allowCredentials"),
		"forward_not_matching_preflights": at(t, in, "unmatchedPreflights") != "IGNORE",
		"filter_enabled":                  object{"default_value": object{"numerator": 100}},
	}
}

// custom is what an AuthorizationPolicy of action CUSTOM becomes: rules that
// decide nothing but leave their name, and a check that is made where it was
// left.
func custom(t testing.TB, mesh object) (filters []any, cluster object) {
	t.Helper()
	policy := one(t, "istio/authorization.yaml", "AuthorizationPolicy", "gatehouse")
	if at(t, policy, "spec", "action") != "CUSTOM" {
		t.Fatal("not a policy of action CUSTOM")
	}
	name := fmt.Sprint(at(t, policy, "spec", "provider", "name"))
	rules := object{}
	for i, r := range at(t, policy, "spec", "rules").([]any) {
		id := fmt.Sprintf("istio-ext-authz-%s-ns[%v]-policy[%v]-rule[%d]", name, at(t, policy, "metadata", "namespace"), at(t, policy, "metadata", "name"), i)
		rules[id] = object{"permissions": []any{permission(t, at(t, r, "to", 0, "operation").(object))}, "principals": []any{principal(t, r.(object))}}
	}
	for _, p := range at(t, mesh, "extensionProviders").([]any) {
		if at(t, p, "name") != name {
			continue
		}
		in := at(t, p, "envoyExtAuthzGrpc")
		_, hostname, _ := strings.Cut(fmt.Sprint(at(t, in, "service")), "/")
		cluster = clusterNamed(fmt.Sprintf("outbound|%v||%s", at(t, in, "port"), hostname))
		cluster["typed_extension_protocol_options"] = object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": object{"http2_protocol_options": object{}},
		}}
		var status int
		if _, err := fmt.Sscan(at(t, in, "statusOnError").(string), &status); err != nil {
			t.Fatal(err)
		}
		return []any{
			object{"name": "envoy.filters.http.rbac", "typed_config": object{
				"@type":                    typeOf + "http.rbac.v3.RBAC",
				"shadow_rules":             object{"action": "DENY", "policies": rules},
				"shadow_rules_stat_prefix": "istio_ext_authz_",
			}},
			object{"name": authzFilter, "typed_config": object{
				"@type":                 typeOf + "http.ext_authz.v3.ExtAuthz",
				"transport_api_version": "V3",
				"failure_mode_allow":    in.(object)["failOpen"],
				"status_on_error":       object{"code": status},
				"grpc_service": object{
					"envoy_grpc": object{"cluster_name": cluster["name"], "authority": hostname},
					"timeout":    at(t, in, "timeout"),
				},
				"filter_enabled_metadata": object{
					"filter": "envoy.filters.http.rbac",
					"path":   []any{object{"key": "istio_ext_authz_shadow_effective_policy_id"}},
					"value":  object{"string_match": object{"prefix": "istio-ext-authz-" + name}},
				},
			}},
		}, cluster
	}
	t.Fatalf("no provider %s", name)
	return nil, nil
}

func permission(t testing.TB, operation object) object {
	t.Helper()
	methods := func(names any) object {
		var or []any
		for _, n := range names.([]any) {
			or = append(or, object{"header": object{"name": ":method", "string_match": object{"exact": n}}})
		}
		return object{"or_rules": object{"rules": or}}
	}
	for key := range operation {
		if key != "methods" && key != "notMethods" {
			t.Fatalf("the reading of operations does not know %s", key)
		}
	}
	var and []any
	if names, there := operation["methods"]; there {
		and = append(and, methods(names))
	}
	if names, there := operation["notMethods"]; there {
		and = append(and, object{"not_rule": methods(names)})
	}
	return object{"and_rules": object{"rules": and}}
}

func principal(t testing.TB, rule object) object {
	t.Helper()
	when, there := rule["when"]
	if !there {
		return object{"and_ids": object{"ids": []any{object{"any": true}}}}
	}
	var and []any
	for _, w := range when.([]any) {
		name, found := strings.CutPrefix(fmt.Sprint(at(t, w, "key")), "request.headers[")
		if !found || len(at(t, w, "notValues").([]any)) != 1 || at(t, w, "notValues", 0) != "*" {
			t.Fatalf("the reading of conditions does not know %v", w)
		}
		present := object{"header": object{"name": strings.TrimSuffix(name, "]"), "present_match": true}}
		and = append(and, object{"not_id": object{"or_ids": object{"ids": []any{present}}}})
	}
	return object{"and_ids": object{"ids": and}}
}

// patched carries out the recipe's EnvoyFilter on Envoy's own messages, which
// know every field, as Istio does.
func patched(t testing.TB, manager object) object {
	t.Helper()
	merged := &managerv3.HttpConnectionManager{}
	message(t, manager, merged)
	for _, p := range at(t, one(t, "istio/envoyfilter.yaml", "EnvoyFilter", "gatehouse"), "spec", "configPatches").([]any) {
		switch to, how := at(t, p, "applyTo"), at(t, p, "patch", "operation"); {
		case to == "NETWORK_FILTER" && how == "MERGE":
			patch := &managerv3.HttpConnectionManager{}
			message(t, at(t, p, "patch", "value", "typed_config").(object), patch)
			proto.Merge(merged, patch)
		case to == "HTTP_FILTER" && how == "INSERT_BEFORE":
			before := at(t, p, "match", "listener", "filterChain", "filter", "subFilter", "name")
			value, err := json.Marshal(at(t, p, "patch", "value"))
			if err != nil {
				t.Fatal(err)
			}
			filter := &managerv3.HttpFilter{}
			if err := protojson.Unmarshal(value, filter); err != nil {
				t.Fatal(err)
			}
			var filters []*managerv3.HttpFilter
			for _, f := range merged.GetHttpFilters() {
				if f.GetName() == before {
					filters = append(filters, filter)
				}
				filters = append(filters, f)
			}
			if len(filters) == len(merged.GetHttpFilters()) {
				t.Fatalf("there is no filter %v", before)
			}
			merged.HttpFilters = filters
		default:
			t.Fatalf("the reading of patches does not know %v %v", to, how)
		}
	}
	if err := merged.ValidateAll(); err != nil {
		t.Fatal(err)
	}
	packed, err := anypb.New(merged)
	if err != nil {
		t.Fatal(err)
	}
	b, err := protojson.Marshal(packed)
	if err != nil {
		t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// message reads an object with a "@type" into the message of that type.
func message(t testing.TB, in object, into proto.Message) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	packed := &anypb.Any{}
	if err := protojson.Unmarshal(b, packed); err != nil {
		t.Fatal(err)
	}
	if err := packed.UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
}

func TestIstioMeshConfigIsRead(t *testing.T) {
	program := labProgram(t, "meshconfig")
	var values object
	if err := yaml.Unmarshal(recipe(t, "istio/meshconfig.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	mesh := at(t, values, "meshConfig").(object)
	read := func() error {
		b, err := json.Marshal(mesh)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := read(); err != nil {
		t.Error(err)
	}
	at(t, mesh, "extensionProviders", 0, "envoyExtAuthzGrpc").(object)["statusOnErrors"] = "503"
	if err := read(); err == nil {
		t.Error("an unknown field was taken")
	}
}

// The objects of the recipe, before Istio's own definitions.
func TestIstioObjectsAreTaken(t *testing.T) {
	c := startCluster(t)
	c.define(t, inModule(t, istioAPI, "kubernetes/customresourcedefinitions.gen.yaml"))
	c.namespace(t, "gatehouse", "istio-ingress")
	c.takes(t, "istio/gateway.yaml", "istio/authorization.yaml", "istio/envoyfilter.yaml")
}
