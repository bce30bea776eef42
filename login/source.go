package login

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// source is the address that a request came from: the peer's own, or what
// trusted proxies say of it. Each proxy appends whom it heard from, so that only
// what stands to the right of the first untrusted hop was written by somebody
// who is believed. Where all hops are trusted, the leftmost is the source.
func source(r *http.Request, trusted []netip.Prefix) netip.Addr {
	at, err := hop(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(hops) {
		if !within(at, trusted) {
			return at
		}
		next, err := hop(strings.TrimSpace(text))
		if err != nil {
			// A proxy that is believed wrote something else than an address: it
			// is itself the last that is known.
			return at
		}
		at = next
	}
	return at
}

// unheard reports that somebody who is not trusted says whom a request is from.
func unheard(r *http.Request, trusted []netip.Prefix) bool {
	at, err := hop(r.RemoteAddr)
	return err == nil && r.Header.Get("X-Forwarded-For") != "" && !within(at, trusted)
}

func within(at netip.Addr, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(at) })
}

// hop reads an address with or without a port. An IPv4 address that came over
// IPv6 is the same client as over IPv4; the zone is the name of an interface of
// this machine and no part of who asks.
func hop(text string) (netip.Addr, error) {
	at, err := netip.ParseAddr(text)
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(text)
		at = withPort.Addr()
	}
	return at.Unmap().WithZone(""), err
}
