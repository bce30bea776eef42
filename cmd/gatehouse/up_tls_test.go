package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/config"
)

func TestCurlIsToldWhatItNeedsForACertificate(t *testing.T) {
	for _, tt := range []struct {
		name           string
		dns            []string
		ip             net.IP
		listen         string
		wantHost, want string // of the ready file, and for curl
	}{
		{"for the address", nil, net.IPv4(127, 0, 0, 1), "127.0.0.1", "", "--cacert FILE https://127.0.0.1:8443"},
		{"for localhost", []string{"localhost"}, nil, "0.0.0.0", "localhost", "--cacert FILE https://localhost:8443"},
		{"for localhost, where the name is another's", []string{"localhost"}, nil, "192.0.2.1", "", "--cacert FILE --connect-to ::192.0.2.1:8443 https://localhost:8443"},
		{"for a name of production", []string{"api.example.com", "localhost.example.com"}, nil, "127.0.0.1", "", "--cacert FILE --connect-to ::127.0.0.1:8443 https://api.example.com:8443"},
		{"for any name", []string{"*.example.com"}, nil, "127.0.0.1", "", "--cacert FILE --connect-to ::127.0.0.1:8443 https://gate.example.com:8443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := selfSigned(t, tt.dns, tt.ip)
			s := &config.Settings{TLS: config.TLS{CertFile: file}}
			s.Listen.Public = config.Address{Host: tt.listen, Port: 8443}
			if got := (&upPlan{settings: s}).gatewayHost(); got != tt.wantHost {
				t.Errorf("the gateway's host is %q, want %q", got, tt.wantHost)
			}
			host := tt.wantHost
			if host == "" {
				host = tt.listen
			}
			want := strings.ReplaceAll(tt.want, "FILE", file)
			if got := curlTo(s, "https://"+host+":8443"); got != want {
				t.Errorf("curl gets %s, want %s", got, want)
			}
		})
	}
	if got := curlTo(&config.Settings{}, "http://127.0.0.1:8080"); got != "http://127.0.0.1:8080" {
		t.Errorf("in the clear, curl gets %s", got)
	}
}

func TestACertificateThatEndsIsToldOf(t *testing.T) {
	file := selfSigned(t, []string{"localhost"}, nil)
	c, err := certificateIn(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &config.Settings{TLS: config.TLS{CertFile: file}}
	s.TLS.Authz.CertFile = filepath.Join(t.TempDir(), "missing.pem") // which is refused by itself
	for _, tt := range []struct {
		name string
		at   time.Time
		want string // "" for nothing
	}{
		{"a month before", c.NotAfter.Add(-720 * time.Hour), ""},
		{"a day before", c.NotAfter.Add(-24 * time.Hour), "GATEWAY_TLS_CERT_FILE: the certificate in " + file + " ends at " + c.NotAfter.UTC().Format(time.RFC3339)},
		{"a second after", c.NotAfter.Add(time.Second), "GATEWAY_TLS_CERT_FILE: the certificate in " + file + " ended at " + c.NotAfter.UTC().Format(time.RFC3339)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(endingCertificates(s, tt.at), "\n"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheCertificateIsFoundBehindItsKey(t *testing.T) {
	alone := selfSigned(t, []string{"localhost"}, nil)
	text, err := os.ReadFile(alone)
	if err != nil {
		t.Fatal(err)
	}
	both := filepath.Join(t.TempDir(), "both.pem")
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte("what stands before")})
	if err := os.WriteFile(both, append(key, text...), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := edgeCertificate(&config.Settings{TLS: config.TLS{CertFile: both}}); err != nil || c.VerifyHostname("localhost") != nil {
		t.Errorf("%v, want the certificate", err)
	}
}

// selfSigned is the name of a file with a certificate that nobody vouches for.
func selfSigned(t *testing.T, dns []string, ip net.IP) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: dns, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tls.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
