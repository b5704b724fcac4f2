// Package dial connects to the addresses at which the gateway may look for other machines'
// servers: never a cloud's metadata service, and only addresses that the file allows. The
// address is checked as it is dialled, so no name can be made to point elsewhere in between.
// Through an HTTP proxy, which sees the address in the gateway's place, the URL is checked
// as far as it goes.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"vault-plugin-secrets-mcp/gateway/config"
)

// errAddress means that the address for which a server's name stands is not one to which
// the gateway may connect.
var errAddress = errors.New("the upstream's address is not allowed")

// Addresses behind which clouds hand out credentials to every program on the machine.
// Those in the link-local ranges are refused with them.
var metadataAddresses = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure
}

// IPv6 ranges that carry an IPv4 address, and the byte at which it starts.
var embeddings = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64 in a local range, RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4, RFC 3056
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible, RFC 4291
}

// never reports whether no upstream may ever be at addr.
func never(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if addr == netip.IPv6Loopback() {
		return false // in ::/96
	}
	for _, e := range embeddings {
		if e.prefix.Contains(addr) {
			bytes := addr.As16()
			inner := netip.AddrFrom4([4]byte(bytes[e.at : e.at+4]))
			if never(inner) {
				return true
			}
		}
	}
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
		return true
	}
	for _, metadata := range metadataAddresses {
		if addr == metadata {
			return true
		}
	}
	return false
}

// allowsHost reports whether the list admits a server by its URL's host name.
func allowsHost(allow *config.UpstreamAllow, host string) bool {
	if allow.Empty() {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, pattern := range allow.Hosts {
		if suffix, wildcard := strings.CutPrefix(pattern, "*"); wildcard {
			if strings.HasSuffix(host, suffix) && len(host) > len(suffix) {
				return true
			}
		} else if host == pattern {
			return true
		}
	}
	return false
}

// keepAlive is the time between probes of a connection that is silent.
const keepAlive = 30 * time.Second

// Func is the form of [net.Dialer.DialContext].
type Func func(ctx context.Context, network, address string) (net.Conn, error)

// To returns a function that connects to the host's addresses where the list allows them: by
// the host's name or by the address. An empty list allows all but those at which no server
// may be.
func To(allow *config.UpstreamAllow, host string, timeout time.Duration) Func {
	byName := allowsHost(allow, host)
	d := &net.Dialer{
		Timeout:   timeout,
		KeepAlive: keepAlive,
		Control: func(_, address string, _ syscall.RawConn) error {
			target, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: it does not parse", errAddress)
			}
			return checkAddress(allow, byName, target.Addr())
		},
	}
	return d.DialContext
}

// checkAddress returns an error unless the gateway may look for a server at the address.
// byName says whether the list admits the server's name.
func checkAddress(allow *config.UpstreamAllow, byName bool, addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if never(addr) {
		return fmt.Errorf("%w: %s is link-local, a cloud's metadata service, or no host's at all", errAddress, addr)
	}
	if byName {
		return nil
	}
	for _, prefix := range allow.Prefixes {
		if prefix.Contains(addr) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not in upstream_allow", errAddress, addr)
}
