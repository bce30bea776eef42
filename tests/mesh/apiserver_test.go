package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// cluster is a Kubernetes API server with its store and nothing else: it takes
// or refuses objects, and runs no pods.
type cluster struct {
	t          testing.TB
	url, token string
	client     *http.Client
	kubeconfig string

	mu    sync.Mutex
	kinds map[string]kind // by apiVersion and kind
}

type kind struct {
	plural     string
	namespaced bool
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	etcd, server := labProgram(t, "etcd"), labProgram(t, "kube-apiserver")
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keyFile := write("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	clientURL, peerURL := "http://"+freeAddress(t), "http://"+freeAddress(t)
	start(t, "etcd", etcd, ordinary(), "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", clientURL, "--advertise-client-urls", clientURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL)

	port := freePort(t)
	c := &cluster{t: t, url: fmt.Sprintf("https://127.0.0.1:%d", port), token: rand.Text(), kinds: map[string]kind{}}
	// Its certificate is its own, made a moment ago.
	c.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	p := start(t, "kube-apiserver", server, ordinary(), "--etcd-servers="+clientURL,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--advertise-address=127.0.0.1", "--cert-dir="+filepath.Join(dir, "certs"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+keyFile, "--service-account-signing-key-file="+keyFile,
		"--token-auth-file="+write("tokens.csv", []byte(c.token+",admin,admin,system:masters\n")),
		"--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount")
	c.kubeconfig = write("kubeconfig", fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"lab",
		"clusters":[{"name":"lab","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],
		"users":[{"name":"admin","user":{"token":%q}}],
		"contexts":[{"name":"lab","context":{"cluster":"lab","user":"admin"}}]}`, c.url, c.token))
	eventually(t, "the API server is ready", func() error {
		select {
		case <-p.Done():
			t.Fatal(p.Err())
		default:
		}
		_, err := c.call(http.MethodGet, "/readyz", nil)
		return err
	})
	return c
}

// call returns the body of an answer of status 2xx.
func (c *cluster) call(method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(context.Background(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Accept", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
	}
	a, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return nil, err
	}
	if a.StatusCode/100 != 2 {
		var s struct{ Message string }
		if json.Unmarshal(b, &s) != nil || s.Message == "" {
			s.Message = string(b)
		}
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, a.Status, s.Message)
	}
	return b, nil
}

func group(apiVersion string) string {
	if strings.Contains(apiVersion, "/") {
		return "/apis/" + apiVersion
	}
	return "/api/" + apiVersion
}

func (c *cluster) kind(apiVersion, name string) (kind, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, known := c.kinds[apiVersion+" "+name]; known {
		return k, nil
	}
	b, err := c.call(http.MethodGet, group(apiVersion), nil)
	if err != nil {
		return kind{}, err
	}
	var list struct {
		Resources []struct {
			Name, Kind string
			Namespaced bool
		}
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return kind{}, err
	}
	for _, r := range list.Resources {
		if !strings.Contains(r.Name, "/") {
			c.kinds[apiVersion+" "+r.Kind] = kind{r.Name, r.Namespaced}
		}
	}
	k, known := c.kinds[apiVersion+" "+name]
	if !known {
		return kind{}, fmt.Errorf("no kind %s in %s", name, apiVersion)
	}
	return k, nil
}

// apply gives an object to the server, which refuses what its definition does
// not know.
func (c *cluster) apply(o object) error {
	apiVersion, name := fmt.Sprint(o["apiVersion"]), fmt.Sprint(o["kind"])
	k, err := c.kind(apiVersion, name)
	if err != nil {
		return err
	}
	meta, _ := o["metadata"].(object)
	path := group(apiVersion)
	if k.namespaced {
		path += "/namespaces/" + fmt.Sprint(meta["namespace"])
	}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = c.call(http.MethodPatch, path+"/"+k.plural+"/"+fmt.Sprint(meta["name"])+"?fieldManager=gatehouse&force=true&fieldValidation=Strict", body)
	return err
}

func (c *cluster) mustApply(t testing.TB, objects ...object) {
	t.Helper()
	for _, o := range objects {
		if err := c.apply(o); err != nil {
			t.Fatal(err)
		}
	}
}

// define applies definitions and waits until the server serves their kinds.
func (c *cluster) define(t testing.TB, files ...string) {
	t.Helper()
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range documents(t, b) {
			if o["kind"] != "CustomResourceDefinition" {
				continue
			}
			if err := c.apply(o); err != nil {
				t.Fatalf("%s: %v", filepath.Base(file), err)
			}
			kindName := fmt.Sprint(at(t, o, "spec", "names", "kind"))
			for _, v := range at(t, o, "spec", "versions").([]any) {
				if v.(object)["served"] != true {
					continue
				}
				eventually(t, kindName+" is served", func() error {
					_, err := c.kind(fmt.Sprint(at(t, o, "spec", "group"))+"/"+fmt.Sprint(at(t, v, "name")), kindName)
					return err
				})
			}
		}
	}
}

// namespace makes one.
func (c *cluster) namespace(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		c.mustApply(t, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": name}})
	}
}

// service is one of this name whose only endpoint is a program of the test.
func (c *cluster) service(t testing.TB, name, address string) {
	t.Helper()
	host, port := split(t, address)
	c.mustApply(t, serviceOf(name, port), object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata":  object{"name": name + "-1", "namespace": "gatehouse", "labels": object{"kubernetes.io/service-name": name}},
		"endpoints": []any{object{"addresses": []any{host}, "conditions": object{"ready": true}}},
		"ports":     []any{object{"name": "main", "port": port, "protocol": "TCP"}},
	})
}

func serviceOf(name string, port int) object {
	return object{
		"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name, "namespace": "gatehouse"},
		"spec": object{"ports": []any{object{"name": "main", "port": port, "targetPort": port, "protocol": "TCP"}}},
	}
}

func split(t testing.TB, address string) (string, int) {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.IP.String(), a.Port
}

// documents are the objects of a file.
func documents(t testing.TB, b []byte) []object {
	t.Helper()
	var out []object
	for part := range strings.SplitSeq("\n"+string(b), "\n---") {
		var o object
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			t.Fatal(err)
		}
		if len(o) > 0 {
			out = append(out, o)
		}
	}
	return out
}

// takes holds a server to taking each object of a recipe, and to refusing it
// with one field misspelt: a server that takes anything proves nothing.
func (c *cluster) takes(t *testing.T, files ...string) {
	t.Helper()
	for _, file := range files {
		for _, o := range documents(t, recipe(t, file)) {
			t.Run(fmt.Sprint(o["kind"])+" "+fmt.Sprint(at(t, o, "metadata", "name")), func(t *testing.T) {
				if err := c.apply(o); err != nil {
					t.Fatal(err)
				}
				spec := at(t, o, "spec").(object)
				spec["misspelt"] = true
				if err := c.apply(o); err == nil {
					t.Error("an unknown field was taken")
				}
				delete(spec, "misspelt")
			})
		}
	}
}
