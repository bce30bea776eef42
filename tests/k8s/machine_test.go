//go:build k8s

package k8s

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine stands in for the kubelet: it gives a container's program the variables
// and files that a pod would have.
type machine struct {
	list []object
	dir  string
	// secrets by key, whatever Secret they are in.
	secrets map[string]string
}

func newMachine(t *testing.T, list []object) *machine {
	t.Helper()
	m := &machine{list: list, dir: t.TempDir(), secrets: map[string]string{
		"jwt-secret":   "test-secret-made-of-obvious-words-for-the-chart",
		"database-url": "postgres://nobody@127.0.0.1:1/nothing",
		"url":          "postgres://owner@127.0.0.1:1/nothing",
		"password":     "test-password",
		"service-role": "test-service-role-key",
	}}
	for _, dir := range []string{"config", "routes", "scripts", "keys", "issuers", "log"} {
		if err := os.Mkdir(filepath.Join(m.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range list {
		into := ""
		switch {
		case o.Kind != "ConfigMap":
		case strings.HasSuffix(o.Metadata.Name, "-routes"):
			into = "routes"
		case strings.HasSuffix(o.Metadata.Name, "-issuers"):
			into = "issuers"
		case strings.HasSuffix(o.Metadata.Name, "-envoy"):
			into = "scripts"
		}
		if into == "" {
			continue
		}
		for name, text := range o.Data {
			if err := os.WriteFile(filepath.Join(m.dir, into, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

// makeKeys puts a key pair and a key set where the Secrets would have them.
func (m *machine) makeKeys(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, privateErr := x509.MarshalPKCS8PrivateKey(key)
	public, publicErr := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err := errors.Join(privateErr, publicErr); err != nil {
		t.Fatal(err)
	}
	m.secrets["private.pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	m.secrets["public.pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	if out, code := m.run(t, "gatehouse", nil, "key", "generate", "--set", "--out", filepath.Join(m.dir, "keys", "keys.json")); code != 0 {
		t.Fatal(out)
	}
}

// makeRoutes puts a table where a ConfigMap of somebody else's would have it.
func (m *machine) makeRoutes(t *testing.T) {
	t.Helper()
	name := filepath.Join(m.dir, "routes", "table.yaml")
	if _, err := os.Stat(name); err == nil {
		return
	}
	table, err := os.ReadFile("../../envoy/routes/prefix.yaml")
	if err == nil {
		err = os.WriteFile(name, table, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// makeIssuers puts a file of issuers, and the secret of one, where a Secret of
// somebody else's would have them.
func (m *machine) makeIssuers(t *testing.T) {
	t.Helper()
	for name, text := range map[string]string{
		"supabase-jwt-secret": "test-secret-made-of-obvious-words-for-supabase",
		"others.yaml": "issuers:\n- name: supabase\n  issuer: https://other.example\n  algorithms: [HS256]\n" +
			"  keys: { secret_file: supabase-jwt-secret }\n  profile: supabase\n",
	} {
		if err := os.WriteFile(filepath.Join(m.dir, "issuers", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// local turns a path of the pod into one of the test.
func (m *machine) local(text string) string {
	return strings.NewReplacer(
		"/config/envoy.yaml", filepath.Join(m.dir, "config", "envoy.yaml"),
		"/etc/gatehouse/routes/", filepath.Join(m.dir, "routes")+"/",
		"/etc/gatehouse/envoy/", filepath.Join(m.dir, "scripts")+"/",
		"/etc/gatehouse/keys/", filepath.Join(m.dir, "keys")+"/",
		"/etc/gatehouse/issuers/", filepath.Join(m.dir, "issuers")+"/",
		"/etc/gatehouse/tls/", filepath.Join(m.dir, "tls")+"/",
		"/etc/gatehouse/authz/", filepath.Join(m.dir, "authz")+"/",
		"/etc/gatehouse/to-authz/", filepath.Join(m.dir, "to-authz")+"/",
		"/var/log/gatehouse/", filepath.Join(m.dir, "log")+"/",
	).Replace(text)
}

// environ is what a container would get.
func (m *machine) environ(t *testing.T, c container, overrides map[string]string) []string {
	t.Helper()
	var list []string
	for _, v := range c.Env {
		value := m.local(v.Value)
		if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
			secret, ok := m.secrets[v.ValueFrom.SecretKeyRef.Key]
			if !ok {
				t.Fatalf("%s wants the key %s, which no Secret of the test has", v.Name, v.ValueFrom.SecretKeyRef.Key)
			}
			value = secret
		}
		if other, ok := overrides[v.Name]; ok {
			value = other
		}
		list = append(list, v.Name+"="+value)
	}
	return list
}

// run runs one of our programs to its end.
func (m *machine) run(t *testing.T, name string, environ []string, args ...string) (out string, code int) {
	t.Helper()
	for i, arg := range args {
		args[i] = m.local(arg)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(grounds.binaries, name), args...)
	cmd.Dir, cmd.Env = m.dir, environ
	text, err := cmd.CombinedOutput()
	exit, exited := errors.AsType[*exec.ExitError](err)
	if err != nil && !exited {
		t.Fatal(err)
	}
	if exited {
		code = exit.ExitCode()
	}
	return string(text), code
}

// The programs read every setting that they get, and say what is wrong with exit
// code 2. With code 1 they have found nobody to ask, and nothing to complain of.
func TestTheProgramsTakeTheSettingsOfEveryExample(t *testing.T) {
	for name, file := range examples(t) {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, render(t, "gate", "default", "-f", file))
			m.makeKeys(t)
			m.makeRoutes(t)
			m.makeIssuers(t)
			for _, o := range m.list {
				var program string
				args := []string{"healthcheck"}
				switch {
				case o.Kind == "Deployment" && strings.HasSuffix(o.Metadata.Name, "-authz"):
					program = "authz"
				case o.Kind == "Deployment" && strings.HasSuffix(o.Metadata.Name, "-login"):
					program = "login"
				case o.Kind == "Job":
					program, args = "gatehouse", o.pod(t).Containers[0].Args
				default:
					continue
				}
				// Ports on which nobody is.
				nobody := map[string]string{
					"GATEWAY_AUTHZ_OPS_LISTEN": "127.0.0.1:1", "GATEWAY_LOGIN_OPS_LISTEN": "127.0.0.1:1",
					"GATEWAY_POSTGRES_SERVER": "127.0.0.1", "GATEWAY_POSTGRES_PORT": "1",
				}
				out, code := m.run(t, program, m.environ(t, o.pod(t).Containers[0], nobody), args...)
				if code != 1 {
					t.Errorf("%s: code %d, want 1:\n%s", o, code, out)
				}
				for line := range strings.Lines(out) {
					// That nobody is there is what was asked for.
					if strings.HasPrefix(line, "healthcheck: no answer from ") {
						continue
					}
					// The migrations' own URL stands beside what the services connect by.
					if strings.Contains(line, "GATEWAY_") && !strings.Contains(line, "has no effect, because GATEWAY_DATABASE_URL is set") {
						t.Errorf("%s: %s", o, line)
					}
				}
			}
		})
	}
}
