package envoy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/atenex/gatehouse/envoy"
)

// ca signs certificates of a test.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newCA(t *testing.T) *ca {
	t.Helper()
	c := &ca{}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, key := sign(t, template, nil)
	var err error
	if c.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	c.key, c.pem = key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return c
}

// sign makes a certificate and its key; by nobody: self-signed.
func sign(t *testing.T, template *x509.Certificate, by *ca) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// issue writes tls.crt, tls.key and ca.crt for this name into the directory, as
// Kubernetes does: all of them change at the same moment, by one renamed link.
func (c *ca) issue(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, key := sign(t, template, c)
	packed, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	version, err := os.MkdirTemp(dir, "..version-") //nolint:usetesting // beside the links to it, as Kubernetes has it
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: packed}),
		"ca.crt":  c.pem,
	} {
		if err := os.WriteFile(filepath.Join(version, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, file)
		if _, err := os.Lstat(link); err != nil {
			if err := os.Symlink(filepath.Join("..data", file), link); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink(filepath.Base(version), filepath.Join(dir, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (c *ca) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// withSecrets writes what Envoy watches into a directory and tells the settings.
func withSecrets(t *testing.T, s *envoy.Settings) {
	t.Helper()
	s.SecretsDir = t.TempDir()
	files, err := envoy.SecretFiles(*s)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.SecretsDir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tlsGate serves https with the certificate of a directory.
func tlsGate(t *testing.T, dir string) *gate {
	t.Helper()
	return newGate(t, options{settings: func(s *envoy.Settings) {
		s.TLS = envoy.TLS{
			CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
			RedirectListen: "127.0.0.1:0",
		}
		withSecrets(t, s)
	}})
}

func httpsClient(config *tls.Config, h2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	return &http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{TLSClientConfig: config, Protocols: protocols, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func TestClientsAreServedOverTLS(t *testing.T) {
	t.Parallel()
	authority, dir := newCA(t), t.TempDir()
	authority.issue(t, dir, "gate.test")
	g := tlsGate(t, dir)
	trust := func(low, high uint16) *tls.Config {
		return &tls.Config{RootCAs: authority.pool(), ServerName: "gate.test", MinVersion: low, MaxVersion: high}
	}
	for _, c := range []struct {
		name  string
		tls   *tls.Config
		h2    bool
		proto string // empty: no connection comes about
	}{
		{"HTTP/1.1", trust(tls.VersionTLS12, 0), false, "HTTP/1.1"},
		{"HTTP/2", trust(tls.VersionTLS12, 0), true, "HTTP/2.0"},
		{"TLS 1.2", trust(tls.VersionTLS12, tls.VersionTLS12), true, "HTTP/2.0"},
		{"TLS 1.1 is too old", trust(tls.VersionTLS10, tls.VersionTLS11), false, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+g.addr+"/api/v1/query/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer allow")
		req.Header.Set("X-Forwarded-Proto", "http")
		res, err := httpsClient(c.tls, c.h2).Do(req)
		if err != nil {
			if c.proto != "" {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.Proto != c.proto || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %d %s %v, want %s", c.name, res.Proto, res.StatusCode, body, err, c.proto)
			continue
		}
		e := (answer{res.StatusCode, res.Header, string(body)}).echo(t)
		if got := e.Header.Get("X-Forwarded-Proto"); got != "https" {
			t.Errorf("%s: X-Forwarded-Proto %q, want https", c.name, got)
		}
	}
	if res, err := client.Get("http://" + g.addr + "/"); err == nil {
		res.Body.Close()
		t.Errorf("plain HTTP got %d", res.StatusCode)
	}

	insecure := &gate{addr: g.listeners(t)["redirect"]}
	for _, c := range []struct{ method, path, host, want string }{
		{"GET", "/a/b?c=d", "gate.test:8080", "https://gate.test/a/b?c=d"},
		{"POST", "/api/v1/users/login", "gate.test", "https://gate.test/api/v1/users/login"},
		{"GET", "//evil.test/x", "gate.test", "https://gate.test/evil.test/x"},
	} {
		a := insecure.raw(t, c.method+" "+c.path+" HTTP/1.1\r\nHost: "+c.host+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if a.status != 308 || a.header.Get("Location") != c.want {
			t.Errorf("%s %s at %s: %d %q, want 308 to %s", c.method, c.path, c.host, a.status, a.header.Get("Location"), c.want)
		}
	}
}

// TestANewCertificateIsShownWithoutALostRequest asks all the time, each time on a new
// connection, and one that was open before stays.
func TestANewCertificateIsShownWithoutALostRequest(t *testing.T) {
	t.Parallel()
	authority, dir := newCA(t), t.TempDir()
	first := authority.issue(t, dir, "gate.test")
	g := tlsGate(t, dir)
	config := &tls.Config{RootCAs: authority.pool(), ServerName: "gate.test"}
	old, err := tls.Dial("tcp", g.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()

	ctx, stop := context.WithCancel(t.Context())
	var asked, failed atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := httpsClient(config, false)
		for ctx.Err() == nil {
			res, err := c.Get("https://" + g.addr + "/health")
			asked.Add(1)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Logf("request %d: %v", asked.Load(), err)
				failed.Add(1)
				continue
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}()
	poll(t, "requests", func() bool { return asked.Load() > 10 })
	shown := func() []byte {
		conn, err := tls.Dial("tcp", g.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	if string(shown()) != string(first.Certificate[0]) {
		t.Fatal("the first certificate is not shown")
	}
	second := authority.issue(t, dir, "gate.test")
	poll(t, "the new certificate", func() bool { return string(shown()) == string(second.Certificate[0]) })
	at := asked.Load()
	poll(t, "requests", func() bool { return asked.Load() > at+10 })
	stop()
	<-done
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	if _, err := io.WriteString(old, request("GET /health")+"\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = old.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(old, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Errorf("the connection from before: %q %v", head, err)
	}
}

func TestAuthzIsAskedOverMutualTLS(t *testing.T) {
	t.Parallel()
	authority, stranger := newCA(t), newCA(t)
	serverDir, clientDir, strangerDir := t.TempDir(), t.TempDir(), t.TempDir()
	server := authority.issue(t, serverDir, "authz.test")
	authority.issue(t, clientDir, "envoy.test")
	stranger.issue(t, strangerDir, "envoy.test")
	a := &authz{network: "tcp", addr: "127.0.0.1:0", options: []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{server}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.pool(),
	}))}}
	a.begin(t, t.Cleanup)
	file := filepath.Join
	for _, c := range []struct {
		name   string
		tls    envoy.AuthzTLS
		status int
	}{
		{"a certificate of the CA", envoy.AuthzTLS{CAFile: file(clientDir, "ca.crt"), CertFile: file(clientDir, "tls.crt"), KeyFile: file(clientDir, "tls.key"), ServerName: "authz.test"}, 200},
		{"no certificate", envoy.AuthzTLS{CAFile: file(clientDir, "ca.crt"), ServerName: "authz.test"}, 503},
		{"one of another CA", envoy.AuthzTLS{CAFile: file(clientDir, "ca.crt"), CertFile: file(strangerDir, "tls.crt"), KeyFile: file(strangerDir, "tls.key"), ServerName: "authz.test"}, 503},
		{"an authz of another name", envoy.AuthzTLS{CAFile: file(clientDir, "ca.crt"), CertFile: file(clientDir, "tls.crt"), KeyFile: file(clientDir, "tls.key"), ServerName: "other.test"}, 503},
		{"an authz whose address is not in its certificate", envoy.AuthzTLS{CAFile: file(clientDir, "ca.crt"), CertFile: file(clientDir, "tls.crt"), KeyFile: file(clientDir, "tls.key")}, 503},
		{"an authz of another CA", envoy.AuthzTLS{CAFile: file(strangerDir, "ca.crt"), CertFile: file(clientDir, "tls.crt"), KeyFile: file(clientDir, "tls.key"), ServerName: "authz.test"}, 503},
		{"in the clear", envoy.AuthzTLS{}, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, options{authz: a, settings: func(s *envoy.Settings) {
				s.AuthzTLS = c.tls
				withSecrets(t, s)
			}})
			get := func() answer {
				return g.do(t, "GET", "/api/v1/query/x", "Authorization: Bearer allow", "X-Request-ID: "+c.name)
			}
			if c.status == 200 {
				// Its health is asked over the same connection; without it nothing passes.
				poll(t, "an allow", func() bool { return get().status == 200 })
				return
			}
			poll(t, "three tries", func() bool { return g.stat(t, "cluster.authz.health_check.failure") >= 3 })
			checkReply(t, get(), 503, detail("Authorization is temporarily unavailable."))
			if len(a.asked(c.name)) > 0 {
				t.Error("authz was asked all the same")
			}
		})
	}
}

// stat is one of Envoy's counters.
func (g *gate) stat(t *testing.T, name string) int {
	t.Helper()
	res, err := http.Get(g.admin + "/stats?filter=^" + name + "$")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
	n, _ := strconv.Atoi(value) // not there yet: 0
	return n
}

func TestANewClientCAAndCertificateReachAuthz(t *testing.T) {
	t.Parallel()
	first, second := newCA(t), newCA(t)
	serverDir, dir := t.TempDir(), t.TempDir()
	first.issue(t, dir, "envoy.test")
	begin := func(c *ca, addr string) *authz {
		a := &authz{network: "tcp", addr: addr, options: []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{c.issue(t, serverDir, "127.0.0.1")}, MinVersion: tls.VersionTLS13,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.pool(),
		}))}}
		a.begin(t, t.Cleanup)
		return a
	}
	a := begin(first, "127.0.0.1:0")
	g := newGate(t, options{authz: a, settings: func(s *envoy.Settings) {
		s.AuthzTLS = envoy.AuthzTLS{CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
		withSecrets(t, s)
	}})
	passes := func() bool {
		return g.do(t, "GET", "/api/v1/query/x", "Authorization: Bearer allow").status == 200
	}
	poll(t, "an allow", passes)
	a.stop()
	// Everything is another authority's from now on.
	second.issue(t, dir, "envoy.test")
	begin(second, a.addr)
	poll(t, "an allow under the second authority", passes)
}

func TestTLSThatCannotBeIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*envoy.Settings)
		want   string
	}{
		{"a certificate without its key", func(s *envoy.Settings) { s.TLS.CertFile = "/a" }, "TLS: want a certificate and its key"},
		{"a relative name", func(s *envoy.Settings) { s.TLS = envoy.TLS{CertFile: "a", KeyFile: "/b"} }, "TLS: want absolute names"},
		{"a redirect alone", func(s *envoy.Settings) { s.TLS.RedirectListen = ":80" }, "TLS: want a certificate"},
		{"a redirect to nowhere", func(s *envoy.Settings) { s.TLS = envoy.TLS{"/a", "/b", "gate.test:80"} }, "TLS redirect address"},
		{"no directory for what is watched", func(s *envoy.Settings) { s.TLS = envoy.TLS{CertFile: "/a", KeyFile: "/b"}; s.SecretsDir = "" }, "no directory"},
		{"an unverified authz", func(s *envoy.Settings) { s.AuthzTLS = envoy.AuthzTLS{CertFile: "/a", KeyFile: "/b"} }, "CA certificates"},
		{"a client's key alone", func(s *envoy.Settings) { s.AuthzTLS = envoy.AuthzTLS{CAFile: "/a", KeyFile: "/b"} }, "TLS to authz: want a certificate and its key"},
		{"a socket", func(s *envoy.Settings) { s.Authz = "unix:///run/authz"; s.AuthzTLS.CAFile = "/a" }, "unix socket"},
		{"a server name that is an address", func(s *envoy.Settings) { s.AuthzTLS = envoy.AuthzTLS{CAFile: "/a", ServerName: "a:1"} }, "server name"},
	} {
		s := envoy.DefaultSettings()
		s.SecretsDir = "/etc/envoy"
		c.change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
