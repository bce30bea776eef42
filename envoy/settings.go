package envoy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/atenex/gatehouse/envoy/routes"
)

// Settings is what one installation tells the renderer. Nothing in it is a
// secret: the rendering may be read by anybody who may read the configuration.
type Settings struct {
	// Listen and AdminListen are host:port, where the host is an IP address,
	// "localhost" or empty (every IPv4 address). Port 0 takes a free one. The
	// admin listener can drain the gate, so it belongs on loopback.
	Listen      string
	AdminListen string

	// Authz is where authz listens: host:port (a name with several addresses is
	// used as several replicas, and only with a name is a decision that was lost
	// with one asked of another) or unix:///path.
	Authz string

	// LoginURL, IngestURL, QueryURL and AuthURL are http or https, with an
	// optional base path. AuthURL may be empty, see routes.Upstream.Unset.
	LoginURL  string
	IngestURL string
	QueryURL  string
	AuthURL   string

	// CORSOrigins, VercelFrontendURL and NgrokURL are the browser origins that
	// may read answers. The second brings its Vercel previews with it.
	CORSOrigins       []string
	VercelFrontendURL string
	NgrokURL          string

	// LoginRate bounds the rate-limited routes per client address; zero: off.
	LoginRate routes.Rate

	// ForwardAuthorization passes the client's token to every upstream.
	ForwardAuthorization bool

	// UpstreamTimeout bounds the wait for an upstream's first byte and between
	// bytes (routes.Timeouts.Idle of routes that set none).
	UpstreamTimeout time.Duration
	// StreamIdleTimeout ends a WebSocket or stream in which nothing moves.
	StreamIdleTimeout time.Duration
	// StreamMax bounds every exchange of a guarded route, whatever it is; zero: none
	// is. authz, given the same figure, bounds it by the token too.
	StreamMax time.Duration
	// ConnectTimeout bounds the connect to an upstream.
	ConnectTimeout time.Duration
	// MaxConnections bounds the connections to each upstream, and as many
	// requests again that wait for one. The login service is exempt.
	MaxConnections uint32

	// Tracing is off unless its Endpoint is set.
	Tracing Tracing

	// TLS and AuthzTLS are off unless set.
	TLS      TLS
	AuthzTLS AuthzTLS
	// SecretsDir is the directory, as Envoy sees it, of what SecretFiles makes; of
	// no interest without TLS.
	SecretsDir string

	// ServerName is sent as the Server header.
	ServerName string
	// CAFile is a PEM bundle that https upstreams are verified against.
	CAFile string
	// MemoryLimit in bytes is Envoy's heap from which on it sheds load; about
	// four fifths of what the machine or container gives it.
	MemoryLimit uint64
	// MaxClients bounds the connections of clients, all listeners together.
	MaxClients uint32
}

// DefaultSettings describes one machine with every part on loopback, which is
// what envoy.yaml shows.
func DefaultSettings() Settings {
	origins := make([]string, 0, 10)
	for port := 3000; port <= 3009; port++ {
		origins = append(origins, fmt.Sprintf("http://localhost:%d", port))
	}
	return Settings{
		Listen:            "0.0.0.0:8080",
		AdminListen:       "127.0.0.1:9901",
		Authz:             "127.0.0.1:9191",
		LoginURL:          "http://127.0.0.1:8081",
		IngestURL:         "http://127.0.0.1:8001",
		QueryURL:          "http://127.0.0.1:8002",
		CORSOrigins:       origins,
		LoginRate:         routes.Rate{Requests: 10, Per: time.Second, Burst: 30},
		UpstreamTimeout:   60 * time.Second,
		StreamIdleTimeout: 300 * time.Second,
		ConnectTimeout:    10 * time.Second,
		MaxConnections:    200,
		ServerName:        "gatehouse",
		CAFile:            "/etc/ssl/certs/ca-certificates.crt",
		MemoryLimit:       1 << 30,
		MaxClients:        50_000,
	}
}

// Validate reports every fault of the settings at once.
func (s Settings) Validate() error {
	var faults []error
	check := func(what string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, err))
		}
	}
	_, err := parseListen(s.Listen)
	check("listen address", err)
	_, err = parseListen(s.AdminListen)
	check("admin listen address", err)
	_, err = parseAuthz(s.Authz)
	check("authz address", err)
	for _, u := range []struct {
		what, url string
		optional  bool
	}{
		{"login URL", s.LoginURL, false},
		{"ingest URL", s.IngestURL, false},
		{"query URL", s.QueryURL, false},
		{"auth URL", s.AuthURL, true},
	} {
		if u.url == "" && u.optional {
			continue
		}
		_, err := routes.ParseURL(u.url)
		check(u.what, err)
	}
	_, err = s.origins()
	check("CORS", err)
	check("login rate", s.LoginRate.Validate())
	check("tracing", s.Tracing.validate())
	for _, d := range []struct {
		what string
		d    time.Duration
	}{
		{"upstream time-out", s.UpstreamTimeout},
		{"stream idle time-out", s.StreamIdleTimeout},
		{"connect time-out", s.ConnectTimeout},
	} {
		if d.d < time.Millisecond {
			check(d.what, fmt.Errorf("%v: want a positive duration", d.d))
		}
	}
	if s.StreamMax != 0 && s.StreamMax < time.Second {
		check("longest stream", fmt.Errorf("%v: want at least a second, or 0", s.StreamMax))
	}
	if s.MaxConnections == 0 {
		check("max connections", errors.New("want at least 1"))
	}
	if s.MemoryLimit < 64<<20 {
		check("memory limit", fmt.Errorf("%d bytes: want at least 64 MiB", s.MemoryLimit))
	}
	if s.MaxClients == 0 {
		check("max clients", errors.New("want at least 1"))
	}
	faults = append(faults, s.validateTLS()...)
	if s.ServerName == "" || strings.ContainsFunc(s.ServerName, func(r rune) bool { return r < ' ' || r > '~' }) {
		check("server name", errors.New("want printable ASCII"))
	}
	return errors.Join(faults...)
}

// upstreamURL is where a table's upstream is; false: nowhere.
func (s Settings) upstreamURL(name string, u routes.Upstream) (routes.URL, bool) {
	text := u.URL
	switch name {
	case routes.UpstreamIngest:
		text = s.IngestURL
	case routes.UpstreamQuery:
		text = s.QueryURL
	case routes.UpstreamLogin:
		text = s.LoginURL
	case routes.UpstreamAuth:
		text = s.AuthURL
	}
	if text == "" {
		return routes.URL{}, false
	}
	parsed, err := routes.ParseURL(text)
	return parsed, err == nil
}
