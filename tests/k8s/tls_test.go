//go:build k8s

package k8s

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority stands in for cert-manager: it fills Secrets with certificates of its own.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return authority{parse(t, &template, &template, key, key), key}
}

func parse(t *testing.T, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secret is what a Secret of type kubernetes.io/tls holds.
func (a authority) secret(t *testing.T) (files map[string][]byte, issued *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	issued = parse(t, &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"gate.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, key, a.key)
	packed, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, text []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text}) }
	return map[string][]byte{
		"tls.crt": block("CERTIFICATE", issued.Raw), "tls.key": block("PRIVATE KEY", packed),
		"ca.crt": block("CERTIFICATE", a.certificate.Raw),
	}, issued
}

// mount puts files into a volume as the kubelet does: a directory of its own for all,
// behind one link that is replaced.
func (m *machine) mount(t *testing.T, volume string, files map[string][]byte) {
	t.Helper()
	dir := filepath.Join(m.dir, volume)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(dir, "..2026_")
	if err != nil {
		t.Fatal(err)
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(fresh, name), text, 0o600))
		if old == "" {
			err = errors.Join(err, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
		}
	}
	err = errors.Join(err, os.Symlink(filepath.Base(fresh), filepath.Join(dir, "..data_tmp")),
		os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if old != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, old)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// issue fills every volume of certificates. What no pod of the example mounts is in
// nobody's way.
func (e *edge) issue(t *testing.T) {
	t.Helper()
	e.ca = newAuthority(t)
	for _, volume := range []string{"tls", "authz", "to-authz"} {
		files, _ := e.ca.secret(t)
		e.mount(t, volume, files)
	}
}

// shown is the certificate that somebody shows a client with Envoy's.
func (e *edge) shown(t *testing.T, address string) (*x509.Certificate, error) {
	t.Helper()
	mine, err := tls.LoadX509KeyPair(filepath.Join(e.dir, "to-authz", "tls.crt"), filepath.Join(e.dir, "to-authz", "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(e.ca.certificate)
	c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{mine}, NextProtos: []string{"h2"}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestHTTPSAndMutualTLSTakeUpChangedSecrets(t *testing.T) {
	e := startExample(t, "tls", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	e.startAuthz(t)
	roots := x509.NewCertPool()
	roots.AddCert(e.ca.certificate)
	client := &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "gate.example.com"}, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	fetch := func(url string) (*http.Response, string, error) {
		res, err := client.Get(url)
		if err != nil {
			return nil, "", err
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		return res, string(text), err
	}
	gate := "https://" + e.public
	refused := func() error {
		res, body, err := fetch(gate + "/api/v1/query/hello")
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "Not authenticated") {
			return fmt.Errorf("%d %s, want authz' 401", res.StatusCode, body)
		}
		return nil
	}
	eventually(t, "a 401 of authz's", func() bool { return refused() == nil })
	if res, _, err := fetch(gate + "/health"); err != nil || res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Errorf("GET /health = %v, %v, want 200 over HTTP/2", res, err)
	}
	if res, _, err := fetch("http://" + e.redirect + "/health?x=1"); err != nil || res.StatusCode != http.StatusPermanentRedirect || res.Header.Get("Location") != "https://127.0.0.1/health?x=1" {
		t.Errorf("in the clear: %v, %v, want to be led to https", res, err)
	}
	// What kubelets and the pods of helm test ask.
	if status, _ := get(t, e.ops+"/ready"); status != 200 {
		t.Errorf("Envoy's /ready = %d", status)
	}
	if status, _ := get(t, "http://"+e.authzOps+"/readyz"); status != 200 {
		t.Errorf("authz' /readyz = %d", status)
	}
	host, port, err := net.SplitHostPort(e.public)
	if err != nil {
		t.Fatal(err)
	}
	tester := find(t, e.list, "Pod", "-test-envoy").pod(t).Containers[0]
	if out, err := exec.CommandContext(t.Context(), tester.Command[0], tester.Command[1], tester.Args[0], tester.Args[1], host, port, tester.Args[4]).CombinedOutput(); err != nil {
		t.Errorf("helm test: %v\n%s", err, out)
	}
	// Whoever has no certificate of the authority's is nobody to authz.
	stranger, err := tls.Dial("tcp", e.authz, &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
	if err == nil {
		_ = stranger.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err = stranger.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("authz says %v to a client without a certificate, want an alert", err)
		}
		_ = stranger.Close()
	}

	// The Secrets change, as cert-manager renews certificates, and nothing is restarted.
	for volume, address := range map[string]string{"tls": e.public, "authz": e.authz} {
		files, want := e.ca.secret(t)
		e.mount(t, volume, files)
		eventually(t, "the new certificate of "+volume, func() bool {
			if err := refused(); err != nil {
				t.Errorf("a request was lost: %v", err)
			}
			got, err := e.shown(t, address)
			return err == nil && bytes.Equal(got.Raw, want.Raw)
		})
	}
	files, _ := e.ca.secret(t)
	e.mount(t, "to-authz", files)
	if err := refused(); err != nil {
		t.Errorf("with another certificate of Envoy's: %v", err)
	}
}

func TestKubeletsAskAuthzInTheClear(t *testing.T) {
	for name, want := range map[string]string{"default": "grpc", "tls": "httpGet"} {
		var spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						ReadinessProbe map[string]any `json:"readinessProbe"`
					} `json:"containers"`
				} `json:"spec"`
			} `json:"template"`
		}
		o := find(t, render(t, "gate", "default", "-f", examples(t)[name]), "Deployment", "-authz")
		if err := json.Unmarshal(o.Spec, &spec); err != nil {
			t.Fatal(err)
		}
		probe := spec.Template.Spec.Containers[0].ReadinessProbe
		if probe[want] == nil || len(probe) != 3 || probe["periodSeconds"] != 5.0 || probe["timeoutSeconds"] != 3.0 {
			t.Errorf("%s: readinessProbe = %v, want %s every 5 s", name, probe, want)
		}
	}
}
