package envoy

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/atenex/gatehouse/envoy/routes"
)

// addressOf is where Envoy connects to; a name is left for it to resolve.
func addressOf(u routes.URL) *corev3.Address { return tcpAddress(u.Host, u.Port) }

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
	if !isIP(host) {
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

// mayHaveReplicas reports whether Envoy can tell one replica of authz from
// another: only a name can have several addresses. To look for another than the
// one that failed is 5 % of Envoy's time with a check, whether one fails or not.
func mayHaveReplicas(authz string) bool {
	address, err := parseAuthz(authz)
	if err != nil || address.GetPipe() != nil {
		return false
	}
	return !isIP(address.GetSocketAddress().GetAddress())
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
