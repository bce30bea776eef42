package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/devstack"
)

// tlsFaults is what keeps Envoy and authz of one machine from speaking TLS, for `up`,
// which has both: with a file that is wrong Envoy would listen to nobody, and be silent
// about it.
func tlsFaults(s *config.Settings) config.Faults {
	var faults config.Faults
	fault := func(name string, err error) {
		if err != nil {
			faults = append(faults, config.Fault{Setting: "GATEWAY_" + name, Problem: err.Error()})
		}
	}
	authority := func(name, file string) {
		if file != "" {
			_, err := readAuthority(file)
			fault(name, err)
		}
	}
	t := s.TLS
	for _, c := range certificates(t) {
		_, err := tls.LoadX509KeyPair(c.cert, c.key)
		fault(c.name, err)
	}
	authority("AUTHZ_TLS_CLIENT_CA_FILE", t.Authz.ClientCAFile)
	authority("ENVOY_AUTHZ_TLS_CA_FILE", t.ToAuthz.CAFile)
	needs := func(name string, set bool, with string, there bool) {
		if set && !there {
			fault(name, errors.New("is not set, but GATEWAY_"+with+" is, and gatehouse up runs both sides"))
		}
	}
	needs("ENVOY_AUTHZ_TLS_CA_FILE", t.Authz.CertFile != "", "AUTHZ_TLS_CERT_FILE", t.ToAuthz.CAFile != "")
	needs("AUTHZ_TLS_CERT_FILE", t.ToAuthz.CAFile != "", "ENVOY_AUTHZ_TLS_CA_FILE", t.Authz.CertFile != "")
	needs("ENVOY_AUTHZ_TLS_CERT_FILE", t.Authz.ClientCAFile != "", "AUTHZ_TLS_CLIENT_CA_FILE", t.ToAuthz.CertFile != "")
	return faults
}

// pairOfFiles is a certificate with its key, by the name of the certificate's setting.
type pairOfFiles struct{ name, cert, key string }

// certificates are those that settings name.
func certificates(t config.TLS) []pairOfFiles {
	return slices.DeleteFunc([]pairOfFiles{
		{"TLS_CERT_FILE", t.CertFile, t.KeyFile},
		{"AUTHZ_TLS_CERT_FILE", t.Authz.CertFile, t.Authz.KeyFile},
		{"ENVOY_AUTHZ_TLS_CERT_FILE", t.ToAuthz.CertFile, t.ToAuthz.KeyFile},
	}, func(p pairOfFiles) bool { return p.cert == "" })
}

// endsSoon is how long before its end a certificate is worth a word.
const endsSoon = 7 * 24 * time.Hour

// endingCertificates are those that clients, Envoy or authz refuse now or soon. Files
// that hold none are for others to tell of.
func endingCertificates(s *config.Settings, now time.Time) []string {
	var ending []string
	for _, given := range certificates(s.TLS) {
		c, err := certificateIn(given.cert)
		if err != nil || now.Add(endsSoon).Before(c.NotAfter) {
			continue
		}
		verb := "ends"
		if now.After(c.NotAfter) {
			verb = "ended"
		}
		ending = append(ending, fmt.Sprintf("GATEWAY_%s: the certificate in %s %s at %s", given.name, given.cert, verb, c.NotAfter.UTC().Format(time.RFC3339)))
	}
	slices.Sort(ending)
	return ending
}

func readAuthority(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// edgeClient asks Envoy on this machine, which clients reach by other names: it has to
// show the certificate that it was given.
func edgeClient(s *config.Settings) (*tls.Config, error) {
	given, err := edgeCertificate(s)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// In the place of a name, the certificate itself is compared.
		InsecureSkipVerify: true, //nolint:gosec // see VerifyConnection
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 || !bytes.Equal(c.PeerCertificates[0].Raw, given.Raw) {
				return errors.New("it shows another certificate than that of GATEWAY_TLS_CERT_FILE")
			}
			return nil
		},
	}, nil
}

// edgeCertificate is what Envoy shows clients.
func edgeCertificate(s *config.Settings) (*x509.Certificate, error) {
	return certificateIn(s.TLS.CertFile)
}

// certificateIn is the first certificate of a file.
func certificateIn(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("%s holds no certificate", file)
		}
		if block.Type == "CERTIFICATE" { // the key may stand in the same file, before it
			return x509.ParseCertificate(block.Bytes)
		}
		text = rest
	}
}

// authzClient asks authz, whose address has this host, as Envoy does.
func authzClient(s *config.Settings, host string) (*tls.Config, error) {
	to := s.TLS.ToAuthz
	roots, err := readAuthority(to.CAFile)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: to.ServerName}
	if c.ServerName == "" {
		c.ServerName = host
	}
	if to.CertFile != "" {
		mine, err := tls.LoadX509KeyPair(to.CertFile, to.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{mine}
	}
	return c, nil
}

// tls is how `up` asks its own parts.
func (p *upPlan) tls() devstack.UpTLS {
	var t devstack.UpTLS
	s := p.settings
	if s.TLS.CertFile != "" {
		t.Gateway = func() (*tls.Config, error) { return edgeClient(s) }
		t.GatewayHost = p.gatewayHost()
	}
	if s.TLS.ToAuthz.CAFile != "" {
		t.Authz = func(address string) (*tls.Config, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return authzClient(s, host)
		}
	}
	return t
}

// gatewayHost is localhost where Envoy listens there and its certificate is for that
// name and not for the address; else the address stands for itself.
func (p *upPlan) gatewayHost() string {
	ip := net.ParseIP(p.settings.Listen.Public.Host)
	if p.settings.Listen.Public.Host != "" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) {
		return ""
	}
	c, err := edgeCertificate(p.settings)
	if err != nil || c.VerifyHostname("127.0.0.1") == nil || c.VerifyHostname("localhost") != nil {
		return ""
	}
	return "localhost"
}

// curlTo is what curl has to be given to ask the gateway at this URL on this machine:
// the certificate where no authority of the system's vouches for it, and a name that it is for.
func curlTo(s *config.Settings, gateway string) string {
	to := gateway
	at, err := url.Parse(gateway)
	if err != nil || at.Scheme != "https" {
		return to
	}
	c, err := edgeCertificate(s)
	if err != nil {
		return to
	}
	name := at.Hostname()
	if c.VerifyHostname(name) != nil && len(c.DNSNames) > 0 {
		// A wildcard is for any one name.
		name = certificateName(c)
		to = "--connect-to ::" + at.Host + " https://" + net.JoinHostPort(name, at.Port())
	}
	if _, err := c.Verify(x509.VerifyOptions{DNSName: name, Intermediates: chainOf(s.TLS.CertFile)}); err != nil {
		to = "--cacert " + shellQuoted(s.TLS.CertFile) + " " + to
	}
	return to
}

func certificateName(c *x509.Certificate) string {
	name := c.DNSNames[0]
	if len(name) > 1 && name[:2] == "*." {
		name = "gate" + name[1:]
	}
	return name
}

// chainOf are the certificates of a file, as far as they can be read.
func chainOf(file string) *x509.CertPool {
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(file); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return pool
}
