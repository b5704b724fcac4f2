package access

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the ranges whose X-Forwarded-For is believed.
type proxies []netip.Prefix

func (p proxies) contains(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// source returns the client's address: that of the connection, or, behind
// trusted proxies, the last one in X-Forwarded-For that is not such a proxy's.
// Each proxy appends the address it saw, so everything further to the left is
// whatever the client wrote.
func (p proxies) source(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if len(p) == 0 || !p.contains(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0 && p.contains(addr); i-- {
		hop, ok := parseHop(hops[i])
		if !ok {
			break
		}
		addr = hop
	}
	return addr
}

// parseHop reads one address of X-Forwarded-For. Some proxies add the port.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if addrPort, err := netip.ParseAddrPort(text); err == nil {
		return addrPort.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// sourceRange is what one source is counted as: an IPv4 address, or an IPv6
// /64, which is the least that one customer gets.
func sourceRange(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// Trusted reports whether the connection is from one of the proxies.
func Trusted(trusted []netip.Prefix, peer net.Addr) bool {
	addrPort, err := netip.ParseAddrPort(peer.String())
	return err == nil && proxies(trusted).contains(addrPort.Addr().Unmap().WithZone(""))
}
