package access

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"vault-plugin-secrets-mcp/backend/token"
)

// bearer returns the token of the Authorization header, the one place where a
// token may be. Its form is checked here, so that nothing that cannot be a
// token costs a request to Vault.
func bearer(header http.Header) (string, *Refusal) {
	values := header["Authorization"]
	if len(values) == 0 {
		return "", noToken()
	}
	const scheme = "bearer"
	value := values[0] // a second one was refused before
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) || value[len(scheme)] != ' ' {
		return "", noToken()
	}
	text := strings.Trim(value[len(scheme):], " ")
	if text == "" {
		return "", noToken()
	}
	if err := token.Malformed(text); err != nil {
		f := invalidToken(ReasonMalformedToken)
		f.Detail = err.Error()
		return "", f
	}
	return text, nil
}

// maxServerName is the length of the longest name that can be registered.
const maxServerName = 64

// auditedServer is the server's name for the audit log. A path that names no
// registered server may have anything, also a token in the wrong place. So it
// returns only texts that could be a name.
func (r *Request) auditedServer() string {
	switch {
	case r.Server != nil:
		return r.Server.Name
	case len(r.serverName) > maxServerName || !validName(r.serverName),
		strings.HasPrefix(r.serverName, token.Prefix), strings.HasPrefix(r.serverName, token.SealedPrefix):
		return ""
	}
	return r.serverName
}

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

// sourceRange is the range that counts as one source: an IPv4 address, or an IPv6 /64,
// the least that one customer gets.
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
