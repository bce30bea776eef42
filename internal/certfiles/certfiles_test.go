package certfiles_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/certfiles"
)

// pair is a self-signed certificate, good for both sides and as the CA of itself.
func pair(t *testing.T) (certificate tls.Certificate, certPEM, keyPEM []byte) {
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
		SerialNumber: serial, Subject: pkix.Name{CommonName: serial.String()}, DNSNames: []string{"authz.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: packed})
}

func put(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// meet shakes hands and says which certificate was shown.
func meet(server, client *tls.Config) ([]byte, error) {
	// A pipe has no room for the alert of a server that refuses.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := l.Accept()
	if err != nil {
		return nil, err
	}
	defer there.Close()
	served := make(chan error, 1)
	go func() { served <- tls.Server(there, server).Handshake() }()
	c := tls.Client(here, client)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	// In TLS 1.3 the client is done before the server has judged it.
	if err := <-served; err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0].Raw, nil
}

func TestTheFilesCountAtTheNextHandshake(t *testing.T) {
	dir := t.TempDir()
	files := certfiles.Files{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k"), ClientCA: filepath.Join(dir, "ca")}
	first, certPEM, keyPEM := pair(t)
	client, clientPEM, _ := pair(t)
	put(t, files.Cert, certPEM)
	put(t, files.Key, keyPEM)
	put(t, files.ClientCA, clientPEM)
	var log bytes.Buffer
	server, err := certfiles.Server(files, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}

	as := func(c ...tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: c}
	}
	shows := func(want tls.Certificate, client *tls.Config) {
		t.Helper()
		got, err := meet(server, client)
		if err != nil || !bytes.Equal(got, want.Certificate[0]) {
			t.Errorf("another certificate was shown, or none: %v", err)
		}
	}
	shows(first, as(client))

	second, certPEM, keyPEM := pair(t)
	put(t, files.Cert, certPEM) // with the old key
	shows(first, as(client))
	shows(first, as(client))
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("a pair that does not match was logged %d times, want once:\n%s", n, &log)
	}
	put(t, files.Key, keyPEM)
	shows(second, as(client))

	other, otherPEM, _ := pair(t)
	if _, err := meet(server, as(other)); err == nil {
		t.Error("a client of another CA was taken")
	}
	put(t, files.ClientCA, otherPEM)
	shows(second, as(other))
	if _, err := meet(server, as(client)); err == nil {
		t.Error("a client of the CA that was replaced was taken")
	}
	put(t, files.ClientCA, []byte("nothing"))
	shows(second, as(other))
}

func TestWhoIsTaken(t *testing.T) {
	dir := t.TempDir()
	_, certPEM, keyPEM := pair(t)
	files := certfiles.Files{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k")}
	put(t, files.Cert, certPEM)
	put(t, files.Key, keyPEM)
	mutual := files
	mutual.ClientCA = files.Cert
	for _, c := range []struct {
		name   string
		files  certfiles.Files
		client *tls.Config
		want   bool
	}{
		{"without a CA everybody", files, &tls.Config{InsecureSkipVerify: true}, true},
		{"with one nobody who shows nothing", mutual, &tls.Config{InsecureSkipVerify: true}, false},
		{"nobody who speaks TLS 1.2", files, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, false},
		{"who asks for HTTP/2 gets it", files, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, true},
		{"nobody who asks for something else alone", files, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"spdy/3"}}, false},
	} {
		server, err := certfiles.Server(c.files, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := meet(server, c.client); (err == nil) != c.want {
			t.Errorf("%s: %v, want taken: %v", c.name, err, c.want)
		}
	}
}

func TestFilesThatCannotBeUsedAreRefusedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	_, certPEM, keyPEM := pair(t)
	cert, key, empty := filepath.Join(dir, "c"), filepath.Join(dir, "k"), filepath.Join(dir, "e")
	put(t, cert, certPEM)
	put(t, key, keyPEM)
	put(t, empty, nil)
	for _, c := range []struct {
		name  string
		files certfiles.Files
	}{
		{"a certificate that is not there", certfiles.Files{Cert: filepath.Join(dir, "x"), Key: key}},
		{"a key that is none", certfiles.Files{Cert: cert, Key: cert}},
		{"a CA without certificates", certfiles.Files{Cert: cert, Key: key, ClientCA: empty}},
	} {
		if _, err := certfiles.Server(c.files, slog.New(slog.DiscardHandler)); err == nil || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
