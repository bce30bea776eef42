package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
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

// writeCertificate puts a certificate that is its own authority, on both sides and for
// these names or, without any, for 127.0.0.1, into two files of the directory.
func writeCertificate(t *testing.T, dir, file string, names ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: serial.String()}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// The key first: what is renamed last is what counts.
	for ending, block := range map[string]*pem.Block{".key": {Type: "PRIVATE KEY", Bytes: packed}, ".crt": {Type: "CERTIFICATE", Bytes: der}} {
		at := filepath.Join(dir, file+ending)
		if err := os.WriteFile(at+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(at+".new", at); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// TestEnvoyAndAuthzTrustEachOtherAloneAndTheirCertificatesChange has Envoy ask authz
// over mutual TLS, and replaces the certificate of authz while requests go on.
func TestEnvoyAndAuthzTrustEachOtherAloneAndTheirCertificatesChange(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	server := writeCertificate(t, dir, "authz")
	writeCertificate(t, dir, "envoy")
	writeCertificate(t, dir, "stranger")
	s := startStack(t, map[string]string{
		"GATEWAY_AUTHZ_TLS_CERT_FILE": at("authz.crt"), "GATEWAY_AUTHZ_TLS_KEY_FILE": at("authz.key"), "GATEWAY_AUTHZ_TLS_CLIENT_CA_FILE": at("envoy.crt"),
		"GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE": at("authz.crt"), "GATEWAY_ENVOY_AUTHZ_TLS_CERT_FILE": at("envoy.crt"), "GATEWAY_ENVOY_AUTHZ_TLS_KEY_FILE": at("envoy.key"),
	})
	address := s.settings["GATEWAY_AUTHZ_LISTEN"]
	shown := func() *x509.Certificate {
		mine, err := tls.LoadX509KeyPair(at("envoy.crt"), at("envoy.key"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{mine}, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0]
	}
	if !shown().Equal(server) {
		t.Error("authz shows another certificate than it was given")
	}
	for _, client := range []string{"", "stranger"} {
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
		if client != "" {
			c, err := tls.LoadX509KeyPair(at(client+".crt"), at(client+".key"))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{c}
		}
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		// The server's word on the client's certificate is the first thing to read.
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
		if alert := tls.AlertError(0); !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), "certificate")) {
			t.Errorf("a client with the certificate %q: %v, want an alert", client, err)
		}
	}
	// What asks for the health of authz on its own machine asks the other port.
	check := exec.CommandContext(t.Context(), filepath.Join(binaries, "authz"), "healthcheck")
	check.Env = s.environ()
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v %s", err, out)
	}

	second := writeCertificate(t, dir, "authz")
	eventually(t, "authz shows the new certificate, and Envoy takes it", func() error {
		if err := s.postJSON("/api/v1/query/ask", nil, "{}").is(http.StatusUnauthorized); err != nil {
			t.Errorf("a request was lost: %v", err)
		}
		if !shown().Equal(second) {
			return errors.New("still the old one")
		}
		return nil
	})
	// A new authz means a new connection.
	s.kill(s.authzProcess)
	s.startAuthz()
	eventually(t, "Envoy finds authz again", func() error {
		return s.postJSON("/api/v1/query/ask", nil, "{}").is(http.StatusUnauthorized)
	})
}
