package config

import (
	"fmt"
	"path/filepath"
)

// TLS is where the certificates of Envoy and authz are; the zero value: all of them
// speak in the clear. The names of files are absolute.
type TLS struct {
	// CertFile and KeyFile are shown to clients, and Redirect is a second address
	// that leads to https. They are on the machine of Envoy.
	CertFile, KeyFile string
	Redirect          *Address // nil: none
	// Authz is shown by authz, on its machine.
	Authz ServerTLS
	// ToAuthz is how Envoy asks authz. The files are on the machine of Envoy.
	ToAuthz ClientTLS
}

// ServerTLS is a server's certificate, and whose clients it takes.
type ServerTLS struct {
	CertFile, KeyFile string
	ClientCAFile      string // empty: everybody's
}

// ClientTLS is what a server is verified against, and what is shown to it.
type ClientTLS struct {
	CAFile            string
	ServerName        string // empty: the host of the address
	CertFile, KeyFile string // empty: nothing
}

// Bounds are of what Envoy may hold.
type Bounds struct {
	Heap    uint64 // bytes
	Clients uint32 // connections
}

func edgeTLSRows() []row {
	file := func(name string, by Need, meaning string, field func(*Settings) *string) row {
		return row{name: name, by: by, meaning: meaning, read: into(absoluteFile, field)}
	}
	const watched = " An absolute name; read anew when it is replaced."
	return []row{
		file("TLS_CERT_FILE", NeedEnvoy, "Has Envoy serve https: its certificate and those between it and the CA's, PEM, on the machine of Envoy ([manual](edge.md)). Goes with `GATEWAY_TLS_KEY_FILE`."+watched,
			func(s *Settings) *string { return &s.TLS.CertFile }),
		file("TLS_KEY_FILE", NeedEnvoy, "The key of it, PEM."+watched,
			func(s *Settings) *string { return &s.TLS.KeyFile }),
		{
			name: "TLS_REDIRECT_LISTEN", by: NeedEnvoy,
			meaning: "A second address of Envoy's, of plain HTTP, where everybody is led to https on port 443 (308). Form as of `GATEWAY_LISTEN`.",
			read: func(s *Settings, text string) error {
				a, err := envoyAddress(text)
				s.TLS.Redirect = &a
				return err
			},
		},
		file("AUTHZ_TLS_CERT_FILE", NeedAuthz, "Has authz speak TLS 1.3: its certificate, PEM. Goes with `GATEWAY_AUTHZ_TLS_KEY_FILE`, and with `GATEWAY_ENVOY_AUTHZ_TLS_CA_FILE` for Envoy."+watched,
			func(s *Settings) *string { return &s.TLS.Authz.CertFile }),
		file("AUTHZ_TLS_KEY_FILE", NeedAuthz, "The key of it, PEM."+watched,
			func(s *Settings) *string { return &s.TLS.Authz.KeyFile }),
		file("AUTHZ_TLS_CLIENT_CA_FILE", NeedAuthz, "The CA, PEM, of those who may ask authz; unset: whoever reaches it may."+watched,
			func(s *Settings) *string { return &s.TLS.Authz.ClientCAFile }),
		file("ENVOY_AUTHZ_TLS_CA_FILE", NeedEnvoy, "Has Envoy ask authz over TLS: the CA, PEM, of authz's certificate, on the machine of Envoy."+watched,
			func(s *Settings) *string { return &s.TLS.ToAuthz.CAFile }),
		{
			name: "ENVOY_AUTHZ_TLS_SERVER_NAME", by: NeedEnvoy,
			meaning: "The name or IP address that authz's certificate must be for. Unset: the host of `GATEWAY_AUTHZ_LISTEN`.",
			read: func(s *Settings, text string) error {
				if !isHost(text) {
					return fmt.Errorf("%s is neither a name nor an IP address", quote(text))
				}
				s.TLS.ToAuthz.ServerName = text
				return nil
			},
		},
		file("ENVOY_AUTHZ_TLS_CERT_FILE", NeedEnvoy, "What Envoy shows authz, PEM, on the machine of Envoy. Goes with `GATEWAY_ENVOY_AUTHZ_TLS_KEY_FILE`."+watched,
			func(s *Settings) *string { return &s.TLS.ToAuthz.CertFile }),
		file("ENVOY_AUTHZ_TLS_KEY_FILE", NeedEnvoy, "The key of it, PEM."+watched,
			func(s *Settings) *string { return &s.TLS.ToAuthz.KeyFile }),
		{
			name: "ENVOY_MAX_HEAP", fallback: "1024", by: NeedEnvoy,
			meaning: "MiB, 64 to 1048576, of heap from nine tenths of which on Envoy sheds load; four fifths of what its container may use ([manual](edge.md)).",
			read: func(s *Settings, text string) error {
				n, err := whole[uint32](64, 1<<20)(text)
				s.Edge.Bounds.Heap = uint64(n) << 20
				return err
			},
		},
		{
			name: "ENVOY_MAX_CONNECTIONS", fallback: "50000", by: NeedEnvoy,
			meaning: "Connections of clients, 1 to 10000000, all together and per Envoy; the next one is closed at once.",
			read:    into(whole[uint32](1, 10_000_000), func(s *Settings) *uint32 { return &s.Edge.Bounds.Clients }),
		},
	}
}

// absoluteFile is the name of a file that may be on another machine.
func absoluteFile(text string) (string, error) {
	if !filepath.IsAbs(text) || filepath.Clean(text) != text || !isPrintable(text) || len(text) > 4096 {
		return "", fmt.Errorf("%s is not the absolute name of a file", quote(text))
	}
	return text, nil
}

// applyTLS checks what goes together, and is said to be on.
func applyTLS(s *Settings, r *report) {
	goes := func(name, with string) {
		if s.given[name] && !s.given[with] && !r.bad[with] {
			r.fault(with, "is not set, but "+fullName(name)+" is")
		}
	}
	for _, pair := range [][2]string{
		{"TLS_CERT_FILE", "TLS_KEY_FILE"},
		{"AUTHZ_TLS_CERT_FILE", "AUTHZ_TLS_KEY_FILE"},
		{"ENVOY_AUTHZ_TLS_CERT_FILE", "ENVOY_AUTHZ_TLS_KEY_FILE"},
	} {
		goes(pair[0], pair[1])
		goes(pair[1], pair[0])
	}
	goes("TLS_REDIRECT_LISTEN", "TLS_CERT_FILE")
	goes("AUTHZ_TLS_CLIENT_CA_FILE", "AUTHZ_TLS_CERT_FILE")
	goes("ENVOY_AUTHZ_TLS_CERT_FILE", "ENVOY_AUTHZ_TLS_CA_FILE")
	goes("ENVOY_AUTHZ_TLS_SERVER_NAME", "ENVOY_AUTHZ_TLS_CA_FILE")
	if s.Listen.Authz.IsUnix() {
		for _, name := range []string{"AUTHZ_TLS_CERT_FILE", "ENVOY_AUTHZ_TLS_CA_FILE"} {
			if s.given[name] {
				r.fault(name, "is set, but GATEWAY_AUTHZ_LISTEN is a unix socket, whose mode says who may connect")
			}
		}
	}
}
