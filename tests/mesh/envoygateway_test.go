package mesh

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"
)

// The real Envoy Gateway, without Kubernetes: it reads the recipe from a
// directory and runs Envoy itself.
func TestEnvoyGateway(t *testing.T) {
	binary := labProgram(t, "envoy-gateway")
	dir := t.TempDir()
	objects := filepath.Join(dir, "objects")
	put := func(name string, b []byte) {
		t.Helper()
		// It watches the directory, and must not see half a file.
		whole := filepath.Join(dir, name)
		if err := os.WriteFile(whole, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(whole, filepath.Join(objects, name)); err != nil {
			t.Fatal(err)
		}
	}
	drop := func(name string) {
		t.Helper()
		if err := os.Remove(filepath.Join(objects, name)); err != nil {
			t.Fatal(err)
		}
	}
	versions := filepath.Join(dir, "data", "envoy-versions", "1.40.0", "bin")
	for _, d := range []string{objects, versions} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(envoyBinary(t), filepath.Join(versions, "envoy")); err != nil {
		t.Fatal(err)
	}

	g := &gate{
		authz:  startDecider(t, freeAddress(t)),
		ingest: newUpstream(t), login: newUpstream(t),
		undecided: unavailable,
		// In a cluster Envoy Gateway moves ports below 1024 up by 10000; here it does not.
		dial: dialing("127.0.0.1:80"),
	}
	// What comes with an installation: its class, and what is behind a Service.
	surroundings := []object{
		{
			"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": object{"name": "eg"},
			"spec": object{
				"controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
				"parametersRef":  object{"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "lab", "namespace": "gatehouse"},
			},
		},
		{
			"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy", "metadata": object{"name": "lab", "namespace": "gatehouse"},
			"spec": object{
				"concurrency": 1,
				"provider":    object{"type": "Host", "host": object{"envoyVersion": "1.40.0"}},
			},
		},
	}
	for name, address := range map[string]string{
		"gatehouse-authz": g.authz.address, "gatehouse-login": g.login.address, "ingest": g.ingest.address, "query": newUpstream(t).address,
	} {
		host, port := split(t, address)
		surroundings = append(surroundings, object{
			"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "Backend", "metadata": object{"name": name, "namespace": "gatehouse"},
			"spec": object{"endpoints": []any{object{"ip": object{"address": host, "port": port}}}},
		})
	}
	put("surroundings.yaml", marshalAll(t, surroundings...))
	for _, name := range []string{"gateway.yaml", "routes.yaml", "authorization.yaml", "mark.yaml"} {
		put(name, marshalAll(t, withBackends(documents(t, recipe(t, "envoy-gateway/"+name)))...))
	}

	config := filepath.Join(dir, "envoy-gateway.yaml")
	if err := os.WriteFile(config, marshalAll(t, object{
		"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyGateway",
		"gateway": object{"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
		"provider": object{"type": "Custom", "custom": object{
			"resource": object{"type": "File", "file": object{"paths": []any{objects}}},
			"infrastructure": object{"type": "Host", "host": object{
				"configHome": filepath.Join(dir, "config"), "dataHome": filepath.Join(dir, "data"),
				"stateHome": filepath.Join(dir, "state"), "runtimeDir": filepath.Join(dir, "runtime"),
			}},
		}},
		"extensionApis": object{"enableEnvoyPatchPolicy": true, "enableBackend": true},
		"logging":       object{"level": object{"default": "info"}},
	}), 0o600); err != nil {
		t.Fatal(err)
	}
	certificates := exec.CommandContext(t.Context(), binary, "certgen", "--local", "--config-home", filepath.Join(dir, "config"))
	if out, err := certificates.CombinedOutput(); err != nil {
		t.Fatalf("envoy-gateway certgen: %v\n%s", err, out)
	}
	start(t, "envoy-gateway", binary, ordinary(), "server", "--config-path", config)
	g.settled(t).keeps(t)

	// The trap of envoyproxy/gateway#8781: it takes the place of the gateway's.
	trap := marshalAll(t, object{
		"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy", "metadata": object{"name": "trap", "namespace": "gatehouse"},
		"spec": object{
			"targetRefs": []any{object{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "api"}},
			"cors":       object{"allowOrigins": []any{"https://elsewhere.example.com"}},
		},
	})
	becomes := func(t *testing.T, what string, f func(answer) bool) {
		t.Helper()
		eventually(t, what, func() error {
			a, err := g.try("GET", strictPath)
			if err == nil && !f(a) {
				err = fmt.Errorf("got %v", a)
			}
			return err
		})
	}
	t.Run("a route's policy that forgets extAuth closes the route", func(t *testing.T) {
		g.forget()
		put("trap.yaml", trap)
		becomes(t, "the route is closed", func(a answer) bool { return a.status == http.StatusServiceUnavailable })
		g.ask(t, "GET", strictPath, bearer(t, claimsOf(g.authz.newMember()))).refused(t, unavailable)
		g.none(t)
		drop("trap.yaml")
		becomes(t, "the route is checked again", func(a answer) bool { return a.status == anonymous.status })
		g.none(t)
	})
	t.Run("without the demand for a mark", func(t *testing.T) {
		drop("mark.yaml")
		t.Run("it opens the route", func(t *testing.T) {
			put("trap.yaml", trap)
			becomes(t, "the route is open", answer.reached)
			drop("trap.yaml")
			becomes(t, "the route is checked again", func(a answer) bool { return a.status == anonymous.status })
		})
		g.unmarked = true
		g.undecided = refusal{status: http.StatusServiceUnavailable}
		t.Run("and the rest holds", g.keeps)
	})
}

// withBackends names Backends where the recipe names Services, which are the one
// thing that Envoy Gateway does not read from files.
func withBackends(objects []object) []object {
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case object:
			refs, _ := v["backendRefs"].([]any)
			for i, r := range refs {
				refs[i] = object{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": r.(object)["name"]}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	for _, o := range objects {
		walk(o)
	}
	return objects
}

func marshalAll(t testing.TB, objects ...object) []byte {
	t.Helper()
	var out []byte
	for _, o := range objects {
		b, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, b...), "---\n"...)
	}
	return out
}

// The objects of the recipe, before the definitions of Gateway API and of Envoy
// Gateway.
func TestEnvoyGatewayObjectsAreTaken(t *testing.T) {
	c := startCluster(t)
	definitions := inModule(t, envoyGateway, "charts/gateway-helm/charts/crds/crds")
	own, err := filepath.Glob(filepath.Join(definitions, "generated", "*.yaml"))
	if err != nil || len(own) == 0 {
		t.Fatalf("no definitions: %v", err)
	}
	c.define(t, append(own, filepath.Join(definitions, "gatewayapi-crds.yaml"))...)
	c.namespace(t, "gatehouse")
	c.takes(t, "envoy-gateway/gateway.yaml", "envoy-gateway/routes.yaml", "envoy-gateway/authorization.yaml", "envoy-gateway/mark.yaml")
	t.Run("a policy that says nothing of a server is refused", func(t *testing.T) {
		p := one(t, "envoy-gateway/authorization.yaml", "SecurityPolicy", "edge")
		ext := at(t, p, "spec", "extAuth").(object)
		delete(ext, "grpc")
		if err := c.apply(p); err == nil {
			b, _ := json.Marshal(p)
			t.Errorf("the server took %s", b)
		}
	})
}
