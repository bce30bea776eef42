package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// upstreamURL is an upstream as the renderer needs it.
type upstreamURL struct {
	host     string // a name or an IP address, no brackets
	port     uint32
	tls      bool
	basePath string // "" or /a/b, without a slash at the end
	// authority is the Host header that the upstream expects.
	authority string
}

// address is where Envoy connects to; a name is left for it to resolve.
func (u upstreamURL) address() *corev3.Address { return tcpAddress(u.host, u.port) }

func (u upstreamURL) isIP() bool {
	_, err := netip.ParseAddr(u.host)
	return err == nil
}

func parseUpstreamURL(text string) (upstreamURL, error) {
	if text == "" {
		return upstreamURL{}, errors.New("missing")
	}
	u, err := url.Parse(text)
	// The text of a URL may hold a password, and url.Error repeats it.
	if err != nil {
		return upstreamURL{}, errors.New("not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return upstreamURL{}, errors.New("want http:// or https://")
	case u.User != nil:
		return upstreamURL{}, errors.New("must hold no user or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return upstreamURL{}, errors.New("must hold no query or fragment")
	case u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "% *"):
		return upstreamURL{}, errors.New("the host is missing or no host name")
	}
	out := upstreamURL{host: u.Hostname(), tls: u.Scheme == "https", authority: u.Host, port: 80}
	if out.tls {
		out.port = 443
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return upstreamURL{}, errors.New("the port is not 1 to 65535")
		}
		out.port = uint32(n)
	}
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	if base != "" {
		if err := (Match{Prefix: base}).validate(); err != nil {
			return upstreamURL{}, fmt.Errorf("base path: %w", err)
		}
	}
	out.basePath = base
	return out, nil
}

// parseListen reads an address for Envoy to listen on. Envoy resolves no names
// there, so none are taken but localhost.
func parseListen(text string) (*corev3.Address, error) {
	host, port, err := splitHostPort(text, 0)
	if err != nil {
		return nil, err
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return nil, fmt.Errorf("%q: the host must be an IP address", text)
	}
	return tcpAddress(host, port), nil
}

// parseAuthz reads host:port or unix:///path.
func parseAuthz(text string) (*corev3.Address, error) {
	if path, ok := strings.CutPrefix(text, "unix://"); ok {
		// 107 bytes and a NUL are what the kernel's sockaddr_un holds.
		if !filepath.IsAbs(path) || len(path) > 107 {
			return nil, fmt.Errorf("%q: want unix:///absolute/path of at most 107 bytes", text)
		}
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}, nil
	}
	host, port, err := splitHostPort(text, 1)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return nil, fmt.Errorf("%q: the host is missing", text)
	}
	return tcpAddress(host, port), nil
}

func splitHostPort(text string, lowest uint64) (string, uint32, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, fmt.Errorf("%q: want host:port", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n < lowest {
		return "", 0, fmt.Errorf("%q: the port is not %d to 65535", text, lowest)
	}
	return host, uint32(n), nil
}

func tcpAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
