package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Errors in this file never show the text: a URL may hold a password.

// webURL is an http(s) URL of a host that could exist, without user
// information, query or fragment.
func webURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || !isPrintable(text):
		return nil, errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Opaque != "":
		return nil, errors.New("is not an http:// or https:// URL")
	case u.User != nil || strings.Contains(text, "@"):
		// An @ further on is the end of a password with a raw / in it.
		return nil, errors.New("holds a user name or password, which would never be sent")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("has a query")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return nil, errors.New("has a fragment")
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	case !isHost(u.Hostname()):
		return nil, errors.New("names a host that cannot be one")
	case strings.HasSuffix(u.Host, ":"):
		return nil, errors.New("has a colon but no port")
	}
	if p := u.Port(); p != "" {
		if _, err := port(p); err != nil {
			return nil, errors.New("has a port that is not a number from 1 to 65535")
		}
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// upstreamURL has no path: requests keep their own, and one given here would be
// lost without a word.
func upstreamURL(text string) (*url.URL, error) {
	u, err := webURL(text)
	if err != nil {
		return nil, err
	}
	if u.Path != "" && u.Path != "/" {
		return nil, errors.New("has a path; requests keep their own, so give scheme, host and port only")
	}
	u.Path, u.RawPath = "", ""
	return u, nil
}

// origin is scheme://host[:port] as a browser writes it in Origin: lower case
// and without the scheme's own port (RFC 6454 section 6.2).
func origin(text string) (string, error) {
	u, err := webURL(text)
	if err != nil {
		return "", err
	}
	if u.Path != "" {
		return "", errors.New("has a path or a slash at its end; an origin is scheme://host[:port]")
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
		if ip.Is6() {
			host = "[" + host + "]"
		}
	}
	p := u.Port()
	if n, err := strconv.Atoi(p); err == nil {
		p = strconv.Itoa(n) // no leading zeros
	}
	if p != "" && !(u.Scheme == "http" && p == "80") && !(u.Scheme == "https" && p == "443") {
		host += ":" + p
	}
	return u.Scheme + "://" + host, nil
}

// httpsOrigin takes one slash at the end: these two settings are called URLs
// and are pasted from an address bar.
func httpsOrigin(text string) (string, error) {
	o, err := origin(strings.TrimSuffix(text, "/"))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(o, "https://") {
		return "", errors.New("is not an https:// origin")
	}
	return o, nil
}

// originList drops empty entries and repeats.
func originList(text string) ([]string, error) {
	if text == "none" {
		return nil, nil
	}
	var list []string
	for i, entry := range strings.Split(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if strings.Contains(entry, "*") {
			return nil, fmt.Errorf("entry %d holds a *; origins are matched whole", i+1)
		}
		o, err := origin(entry)
		if err != nil {
			return nil, fmt.Errorf("entry %d %w", i+1, err)
		}
		if !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("lists no origin; write none to allow none")
	}
	return list, nil
}
