package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Address is where a server listens.
type Address struct {
	Host string // an IP address, a name, or empty for every interface
	Port uint16 // 0: a free one
	Path string // of a unix socket; then Host and Port are empty
}

// IsUnix reports that the address is a unix socket.
func (a Address) IsUnix() bool { return a.Path != "" }

// Listen gives the arguments of net.Listen.
func (a Address) Listen() (network, address string) {
	if a.IsUnix() {
		return "unix", a.Path
	}
	return "tcp", a.String()
}

// String is the form in which the setting is written.
func (a Address) String() string {
	if a.IsUnix() {
		return unixScheme + a.Path
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

const (
	unixScheme = "unix://"
	// maxSocketPath is sockaddr_un's room, less the final NUL, on the system
	// with the least of it (macOS).
	maxSocketPath = 103
)

// hostName is what may stand as a name in an address: RFC 1123 labels and the
// underscore that Docker and Kubernetes allow. Lower-casing is the caller's.
var hostName = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?$`)

func isHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == ""
	}
	// All digits and dots would be an IP address if it were a right one.
	return len(host) <= 253 && hostName.MatchString(host) && strings.Trim(host, "0123456789.") != ""
}

func tcpAddress(text string) (Address, error) {
	if strings.HasPrefix(text, unixScheme) {
		return Address{}, errors.New("is a unix socket, which only GATEWAY_AUTHZ_LISTEN can be")
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, fmt.Errorf("%s is not host:port or :port", quote(text))
	}
	n, err := whole[uint16](0, 65535)(portText)
	if err != nil {
		return Address{}, fmt.Errorf("%s has no port number (0 to 65535) after the colon", quote(text))
	}
	if host != "" && !isHost(host) {
		return Address{}, fmt.Errorf("%s has no good host before the colon", quote(text))
	}
	return Address{Host: host, Port: n}, nil
}

// envoyAddress is one that Envoy binds: it takes no names.
func envoyAddress(text string) (Address, error) {
	a, err := tcpAddress(text)
	if err != nil || a.Host == "" {
		return a, err
	}
	if strings.EqualFold(a.Host, "localhost") {
		a.Host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(a.Host); err != nil {
		return Address{}, fmt.Errorf("%s names a host; Envoy needs an IP address", quote(text))
	}
	return a, nil
}

func tcpOrUnixAddress(text string) (Address, error) {
	socket, ok := strings.CutPrefix(text, unixScheme)
	if !ok {
		a, err := tcpAddress(text)
		if err != nil {
			err = fmt.Errorf("%w, nor unix:///absolute/path", err)
		}
		return a, err
	}
	switch {
	case !path.IsAbs(socket) || !isPrintable(socket):
		return Address{}, errors.New("is not unix:// with an absolute path")
	case path.Clean(socket) != socket:
		return Address{}, errors.New("has a path with empty, . or .. parts, or that ends in /")
	case len(socket) > maxSocketPath:
		return Address{}, fmt.Errorf("has a path of more than %d bytes, the most that a unix socket can have", maxSocketPath)
	}
	return Address{Path: socket}, nil
}

// prefixes reads CIDRs. A single address counts as its own network; host bits
// are refused, because whoever wrote them meant something else than they got.
func prefixes(text string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for i, entry := range strings.Split(text, ",") {
		entry = strings.TrimSpace(entry)
		p, err := netip.ParsePrefix(entry)
		if ip, addrErr := netip.ParseAddr(entry); err != nil && addrErr == nil && ip.Zone() == "" {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("entry %d, %s, is not a CIDR such as 10.0.0.0/8", i+1, quote(entry))
		case p.Addr().Is4In6():
			return nil, fmt.Errorf("entry %d, %s, is an IPv4 network in IPv6 form; write it as IPv4", i+1, quote(entry))
		case p.Masked() != p:
			return nil, fmt.Errorf("entry %d, %s, has bits beyond its length; write %s", i+1, quote(entry), p.Masked())
		}
		list = append(list, p)
	}
	return list, nil
}
