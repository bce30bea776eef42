package routes

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// URL is where an upstream is.
type URL struct {
	Host     string // a name or an IP address, no brackets
	Port     uint32
	TLS      bool
	BasePath string // "" or /a/b, without a slash at the end
	// Authority is the Host header that the upstream expects.
	Authority string
}

// IsIP reports that the host is an address and not a name.
func (u URL) IsIP() bool {
	_, err := netip.ParseAddr(u.Host)
	return err == nil
}

// ParseURL reads where an upstream is: http or https, with an optional base path.
// Its error repeats nothing of the text, which may hold a password.
func ParseURL(text string) (URL, error) {
	if text == "" {
		return URL{}, errors.New("missing")
	}
	u, err := url.Parse(text)
	// The text of a URL may hold a password, and url.Error repeats it.
	if err != nil {
		return URL{}, errors.New("not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return URL{}, errors.New("want http:// or https://")
	case u.User != nil:
		return URL{}, errors.New("must hold no user or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return URL{}, errors.New("must hold no query or fragment")
	case u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "% *"):
		return URL{}, errors.New("the host is missing or no host name")
	}
	out := URL{Host: u.Hostname(), TLS: u.Scheme == "https", Authority: u.Host, Port: 80}
	if out.TLS {
		out.Port = 443
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return URL{}, errors.New("the port is not 1 to 65535")
		}
		out.Port = uint32(n)
	}
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	if base != "" {
		if err := (Match{Prefix: base}).validate(); err != nil {
			return URL{}, fmt.Errorf("base path: %w", err)
		}
	}
	out.BasePath = base
	return out, nil
}
