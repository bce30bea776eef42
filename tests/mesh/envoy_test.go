package mesh

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/atenex/gatehouse/internal/devstack"
)

// recipes is where the page's files are.
const recipes = "../../docs/meshes"

func recipe(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(recipes, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func envoyBinary(t testing.TB) string {
	t.Helper()
	b, err := devstack.EnvoyBinary(t.Context(), devstack.FindOptions{EnvoyBin: os.Getenv("ENVOY_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	return b.Path
}

// object is a YAML or JSON mapping.
type object = map[string]any

// at walks down keys and indices.
func at(t testing.TB, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			v = v.(object)[step]
		case int:
			v = v.([]any)[step]
		}
		if v == nil {
			t.Fatalf("nothing at %v", path)
		}
	}
	return v
}

// one is the object of that kind and name in a file of the recipe.
func one(t testing.TB, file, kind, name string) object {
	t.Helper()
	for _, o := range documents(t, recipe(t, file)) {
		if o["kind"] == kind && at(t, o, "metadata", "name") == name {
			return o
		}
	}
	t.Fatalf("no %s %s in %s", kind, name, file)
	return nil
}

// settle gives the clusters of a configuration their addresses on this machine.
// One that is not listed is left alone.
func settle(t testing.TB, config object, addresses map[string]string) {
	t.Helper()
	left := len(addresses)
	for _, c := range at(t, config, "static_resources", "clusters").([]any) {
		address, there := addresses[fmt.Sprint(at(t, c, "name"))]
		if !there {
			continue
		}
		left--
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		socket := at(t, c, "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint", "address", "socket_address").(object)
		socket["address"], socket["port_value"] = host, n
	}
	if left != 0 {
		t.Fatalf("not all of %v are clusters", addresses)
	}
}

// runEnvoy runs the configuration with its listener and admin on free ports, and
// returns where it listens.
func runEnvoy(t testing.TB, config object) string {
	t.Helper()
	listen := func(socket any) string {
		port := freePort(t)
		s := socket.(object)
		s["address"], s["port_value"] = "127.0.0.1", port
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	address := listen(at(t, config, "static_resources", "listeners", 0, "address", "socket_address"))
	admin := listen(at(t, config, "admin", "address", "socket_address"))
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "envoy", envoyBinary(t), ordinary(), "-c", file, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn")
	await(t, p, "Envoy", "http://"+admin+"/ready")
	return address
}

func dialing(address string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("tcp", address) }
}

// settled waits until the gate has found its authz.
func (g *gate) settled(t testing.TB) *gate {
	t.Helper()
	eventually(t, "the gate answers from authz", func() error {
		a, err := g.try("GET", strictPath)
		if err == nil && a.status != anonymous.status {
			err = fmt.Errorf("got %v", a)
		}
		return err
	})
	return g
}

func TestPlainEnvoy(t *testing.T) {
	t.Parallel()
	file := filepath.Join(recipes, "envoy", "envoy.yaml")
	t.Run("Envoy takes the file as it is", func(t *testing.T) {
		if out, err := exec.Command(envoyBinary(t), "--mode", "validate", "-c", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("and the linter has nothing to say about it", func(t *testing.T) {
		lint := exec.Command(filepath.Join(binaries, "gatehouse"), "envoy", "lint", file)
		lint.Env = ordinary()
		if out, err := lint.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	var config object
	if err := yaml.Unmarshal(recipe(t, "envoy/envoy.yaml"), &config); err != nil {
		t.Fatal(err)
	}
	g := &gate{
		authz:  startDecider(t, freeAddress(t)),
		ingest: newUpstream(t), login: newUpstream(t),
		undecided: unavailable,
	}
	settle(t, config, map[string]string{"gatehouse-authz": g.authz.address, "gatehouse-login": g.login.address, "ingest": g.ingest.address})
	g.dial = dialing(runEnvoy(t, config))
	g.settled(t).keeps(t)
}
