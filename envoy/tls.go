package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

// TLS has Envoy serve https; the zero value: http. The files are PEM, on the machine
// of Envoy, which watches them.
type TLS struct {
	CertFile, KeyFile string
	// RedirectListen is a second address, of plain http, that leads everybody to
	// https on port 443; empty: none.
	RedirectListen string
}

// AuthzTLS has Envoy ask authz over TLS; the zero value: in the clear. The files are
// PEM, on the machine of Envoy, which watches them.
type AuthzTLS struct {
	// CAFile is what the certificate of authz is verified against.
	CAFile string
	// ServerName is the name, or the IP address, that must be in it; empty: the host
	// of Settings.Authz.
	ServerName string
	// CertFile and KeyFile are what Envoy shows; empty: nothing.
	CertFile, KeyFile string
}

// The files that say where certificates are. Envoy reads them at its start, and the
// certificates that they name whenever these are replaced: what a configuration names
// itself is read once.
const (
	FileEdgeCertificate  = "tls-edge.yaml"
	FileAuthzCertificate = "tls-authz-client.yaml"
	FileAuthzCA          = "tls-authz-ca.yaml"
)

func (t TLS) on() bool      { return t != (TLS{}) }
func (t AuthzTLS) on() bool { return t != (AuthzTLS{}) }

// NeedsSecretFiles reports whether SecretFiles has any.
func (s Settings) NeedsSecretFiles() bool { return s.TLS.on() || s.AuthzTLS.on() }

func (s Settings) validateTLS() []error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	pair := func(what, cert, key string, required bool) {
		switch {
		case cert == "" && key == "" && !required:
		case cert == "" || key == "":
			fault("%s: want a certificate and its key, not one of them", what)
		case !filepath.IsAbs(cert) || !filepath.IsAbs(key):
			fault("%s: want absolute names of files", what)
		}
	}
	if s.TLS.on() {
		pair("TLS", s.TLS.CertFile, s.TLS.KeyFile, true)
		if s.TLS.RedirectListen != "" {
			if _, err := parseListen(s.TLS.RedirectListen); err != nil {
				fault("TLS redirect address: %w", err)
			}
		}
	}
	if a := s.AuthzTLS; a.on() {
		pair("TLS to authz", a.CertFile, a.KeyFile, false)
		if !filepath.IsAbs(a.CAFile) {
			fault("TLS to authz: want the absolute name of a file of CA certificates")
		}
		if strings.HasPrefix(s.Authz, "unix://") {
			fault("TLS to authz: it listens on a unix socket, whose mode says who may connect")
		}
		if strings.ContainsAny(a.ServerName, "*/: \t\r\n") && !isIP(a.ServerName) {
			fault("TLS to authz: the server name %q is neither a name nor an IP address", a.ServerName)
		}
	}
	if s.NeedsSecretFiles() && !filepath.IsAbs(s.SecretsDir) {
		fault("TLS: no directory is known for the files that Envoy watches")
	}
	return faults
}

func isIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// SecretFiles are the files that belong into Settings.SecretsDir, by their names. No
// secret is in them, only where it is.
func SecretFiles(s Settings) (map[string][]byte, error) {
	files := map[string][]byte{}
	add := func(name string, secret *tlsv3.Secret) error {
		secret.Name = name
		text, err := secretFile(secret)
		files[name] = text
		return err
	}
	if s.TLS.on() {
		if err := add(FileEdgeCertificate, certificate(s.TLS.CertFile, s.TLS.KeyFile)); err != nil {
			return nil, err
		}
	}
	if a := s.AuthzTLS; a.on() {
		if a.CertFile != "" {
			if err := add(FileAuthzCertificate, certificate(a.CertFile, a.KeyFile)); err != nil {
				return nil, err
			}
		}
		if err := add(FileAuthzCA, &tlsv3.Secret{Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa:        fileSource(a.CAFile),
			WatchedDirectory: &corev3.WatchedDirectory{Path: filepath.Dir(a.CAFile)},
		}}}); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// certificate is a pair of files. Where they share a directory, what is renamed into
// it counts, which is how Kubernetes replaces a secret; else a file put in the place of
// one of them.
func certificate(cert, key string) *tlsv3.Secret {
	c := &tlsv3.TlsCertificate{CertificateChain: fileSource(cert), PrivateKey: fileSource(key)}
	if dir := filepath.Dir(cert); dir == filepath.Dir(key) {
		c.WatchedDirectory = &corev3.WatchedDirectory{Path: dir}
	}
	return &tlsv3.Secret{Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: c}}
}

func fileSource(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}

func secretFile(secret *tlsv3.Secret) ([]byte, error) {
	answer := &discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{pack(secret)}}
	if err := validateDeep(answer); err != nil {
		return nil, fmt.Errorf("the file %s: %w", secret.GetName(), err)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("printing %s: %w", secret.GetName(), err)
	}
	body, err := yaml.JSONToYAML(text)
	if err != nil {
		return nil, fmt.Errorf("printing %s: %w", secret.GetName(), err)
	}
	return append([]byte(renderedHeader), body...), nil
}

// watchedSecret asks a file of the directory for its one secret.
func watchedSecret(s Settings, name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{
			Path: filepath.Join(s.SecretsDir, name),
		}},
	}}
}

// publicTLS is how clients are spoken to; nil: in the clear.
func publicTLS(s Settings) *corev3.TransportSocket {
	if !s.TLS.on() {
		return nil
	}
	return tlsSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			AlpnProtocols:                  []string{"h2", "http/1.1"},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{watchedSecret(s, FileEdgeCertificate)},
		},
		RequireClientCertificate: no(),
	})
}

// verifyAuthz makes a cluster one that is spoken to over TLS, checks of its health
// included.
func verifyAuthz(c *clusterv3.Cluster, s Settings) {
	a := s.AuthzTLS
	if !a.on() {
		return
	}
	name := a.ServerName
	if name == "" {
		// Settings were judged before.
		name, _, _ = splitHostPort(s.Authz, 1)
	}
	san := &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exactly(name)}
	sni := name
	if isIP(name) {
		san.SanType, sni = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, ""
	}
	common := &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
		AlpnProtocols: []string{"h2"},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: &tlsv3.CertificateValidationContext{
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{san},
				},
				ValidationContextSdsSecretConfig: watchedSecret(s, FileAuthzCA),
			},
		},
	}
	if a.CertFile != "" {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{watchedSecret(s, FileAuthzCertificate)}
	}
	c.TransportSocket = tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: sni})
}

func tlsSocket(m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(m)},
	}
}

// redirect leads whoever asks in the clear to the same address over https. It reads
// the headers of one request and nothing else.
func redirect(s Settings) (*listenerv3.Listener, error) {
	if s.TLS.RedirectListen == "" {
		return nil, nil
	}
	address, err := parseListen(s.TLS.RedirectListen)
	if err != nil {
		return nil, errors.New("TLS redirect address: " + err.Error())
	}
	manager := &managerv3.HttpConnectionManager{
		StatPrefix:                   "redirect",
		ServerHeaderTransformation:   managerv3.HttpConnectionManager_OVERWRITE,
		ServerName:                   s.ServerName,
		UseRemoteAddress:             yes(),
		NormalizePath:                yes(),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: managerv3.HttpConnectionManager_REJECT_REQUEST,
		StripPortMode:                &managerv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		MaxRequestHeadersKb:          u32(60),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:                  span(10 * time.Second),
			MaxHeadersCount:              u32(100),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_DROP_HEADER,
		},
		RequestHeadersTimeout: span(10 * time.Second),
		StreamIdleTimeout:     span(10 * time.Second),
		LocalReplyConfig:      localReplies(),
		HttpFilters:           []*managerv3.HttpFilter{filter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true})},
		RouteSpecifier: &managerv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: "redirect",
			VirtualHosts: []*routev3.VirtualHost{{
				Name: "redirect", Domains: []string{"*"},
				Routes: []*routev3.Route{{
					Name:  "redirect",
					Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
					Action: &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{
						SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
						ResponseCode:           routev3.RedirectAction_PERMANENT_REDIRECT, // 308, which keeps the method
					}},
				}},
			}},
		}},
	}
	return &listenerv3.Listener{
		Name:                          "redirect",
		Address:                       address,
		PerConnectionBufferLimitBytes: u32(bufferLimit),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(manager)},
		}}}},
	}, nil
}
