package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The real Contour reads the recipe from the real API server and configures the
// real Envoy. Contour is released with another version of Envoy than ours.
func TestContour(t *testing.T) {
	binary := labProgram(t, "contour")
	c := startCluster(t)
	c.define(t, inModule(t, contour, "examples/contour/01-crds.yaml"))
	c.namespace(t, "projectcontour", "gatehouse")
	t.Run("objects", func(t *testing.T) { c.takes(t, "contour/contour.yaml") })

	g := newPodGate(t)
	for name, address := range map[string]string{
		"gatehouse-authz": g.authz.address, "gatehouse-login": g.login.address, "ingest": g.ingest.address, "query": pod + ":8002",
	} {
		c.service(t, name, address)
	}
	certificate := certificateFor(t, host)
	c.mustApply(t, certificate.secret)

	// What Contour cannot do; docs/meshes.md says each.
	g.undecided = refusal{status: http.StatusForbidden}
	g.unmarked = true
	g.passing = otherSpellings

	xds, https := freePort(t), freePort(t)
	env := ordinary("CONTOUR_NAMESPACE=projectcontour", "KUBECONFIG="+c.kubeconfig)
	start(t, "contour", binary, env, "serve", "--kubeconfig="+c.kubeconfig, "--insecure", "--disable-leader-election",
		"--xds-address=127.0.0.1", fmt.Sprintf("--xds-port=%d", xds),
		"--envoy-service-https-address=127.0.0.1", fmt.Sprintf("--envoy-service-https-port=%d", https),
		"--envoy-service-http-address=127.0.0.1", fmt.Sprintf("--envoy-service-http-port=%d", freePort(t)),
		"--stats-address=127.0.0.1", fmt.Sprintf("--stats-port=%d", freePort(t)),
		"--http-address=127.0.0.1", fmt.Sprintf("--http-port=%d", freePort(t)),
		"--health-address=127.0.0.1", fmt.Sprintf("--health-port=%d", freePort(t)),
		"--debug-http-address=127.0.0.1", fmt.Sprintf("--debug-http-port=%d", freePort(t)))
	dir := t.TempDir()
	bootstrap := filepath.Join(dir, "envoy.json")
	write := exec.Command(binary, "bootstrap", bootstrap, "--xds-address=127.0.0.1", fmt.Sprintf("--xds-port=%d", xds), "--admin-address="+filepath.Join(dir, "admin.sock"))
	write.Env = env
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("contour bootstrap: %v\n%s", err, out)
	}
	start(t, "envoy", envoyBinary(t), ordinary(), "-c", bootstrap, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn",
		"--service-cluster", "projectcontour", "--service-node", "envoy")
	eventually(t, "Contour finds the recipe valid", func() error {
		b, err := c.call(http.MethodGet, "/apis/projectcontour.io/v1/namespaces/gatehouse/httpproxies/api", nil)
		if err != nil {
			return err
		}
		var o object
		if err := json.Unmarshal(b, &o); err != nil {
			return err
		}
		if s, _ := o["status"].(object); s["currentStatus"] != "valid" {
			return fmt.Errorf("%v", o["status"])
		}
		return nil
	})
	g.dial = func() (net.Conn, error) {
		return tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(https)), &tls.Config{RootCAs: certificate.pool, ServerName: host, NextProtos: []string{"http/1.1"}})
	}
	g.settled(t).keeps(t)

	// Why the recipe says "none" where others disable.
	t.Run("a route that is not checked takes a forged identity", func(t *testing.T) {
		proxy := one(t, "contour/contour.yaml", "HTTPProxy", "api")
		for _, r := range at(t, proxy, "spec", "routes").([]any) {
			if at(t, r, "conditions", 0).(object)["exact"] == nonePath {
				r.(object)["authPolicy"] = object{"disabled": true}
			}
		}
		c.mustApply(t, proxy)
		victim := g.authz.newMember()
		eventually(t, "the identity arrives", func() error {
			g.forget()
			if _, err := g.try("POST", nonePath, "X-User-ID: "+victim.id); err != nil {
				return err
			}
			for _, r := range g.login.requests() {
				if r.header.Get("X-User-Id") == victim.id {
					return nil
				}
			}
			return fmt.Errorf("it does not")
		})
	})
}

// newPodGate has everything at the address and the ports that a cluster's
// Services have in the recipes.
func newPodGate(t testing.TB) *gate {
	t.Helper()
	newUpstreamAt(t, pod+":8002")
	return &gate{
		authz:  startDecider(t, pod+":9191"),
		ingest: newUpstreamAt(t, pod+":8001"), login: newUpstreamAt(t, pod+":8081"),
		undecided: unavailable,
	}
}

type certificate struct {
	secret object
	pool   *x509.CertPool
}

// certificateFor is a certificate of its own making, as Secret api-tls.
func certificateFor(t testing.TB, name string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secretKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	b64 := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return certificate{pool: pool, secret: object{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": object{"name": "api-tls", "namespace": "gatehouse"},
		"data": object{"tls.crt": b64("CERTIFICATE", der), "tls.key": b64("PRIVATE KEY", secretKey)},
	}}
}
