package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// tls looks into the files that the exporter and Envoy are going to read: the
// exporter alone would go on without them.
func (e *environment) tls(c *Config) {
	if name := e.which(tracesOr("CERTIFICATE")...); e.get(name) != "" {
		c.CAFile = e.get(name)
		text, err := os.ReadFile(c.CAFile)
		switch {
		case err != nil:
			e.refuse(name, "%v", err)
		case !x509.NewCertPool().AppendCertsFromPEM(text):
			e.refuse(name, "%s holds no certificate", c.CAFile)
		}
	}
	cert, key := e.which(tracesOr("CLIENT_CERTIFICATE")...), e.which(tracesOr("CLIENT_KEY")...)
	c.CertFile, c.KeyFile = e.get(cert), e.get(key)
	switch {
	case c.CertFile == "" && c.KeyFile == "":
	case c.CertFile == "":
		e.refuse(cert, "missing beside %s", key)
	case c.KeyFile == "":
		e.refuse(key, "missing beside %s", cert)
	default:
		if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
			e.refuse(cert, "%v", err) // it names the files and quotes nothing of them
		}
	}
	for _, name := range tracesOr("INSECURE") {
		_ = e.flag(name)
	}
}
