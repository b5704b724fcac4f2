package dial

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func TestAddressesAtWhichNoServerMayBe(t *testing.T) {
	for _, addr := range []string{
		"169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
		"192.0.0.192", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe",
		"64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254",
	} {
		require.True(t, never(netip.MustParseAddr(addr)), addr)
	}
	for _, addr := range []string{"127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::808:808", "2002:808:808::1", "100.64.0.1"} {
		require.False(t, never(netip.MustParseAddr(addr)), addr)
	}
}

func TestHostsOfTheListMayBePatterns(t *testing.T) {
	allow := &config.UpstreamAllow{Hosts: []string{"*.example.com", "mcp.test"}}
	for host, want := range map[string]bool{
		"a.example.com": true, "a.b.example.com": true, "A.EXAMPLE.COM": true, "a.example.com.": true, "mcp.test": true,
		"example.com": false, ".example.com": false, "aexample.com": false, "example.com.evil": false, "mcp.test.evil": false, "x.mcp.test": false, "": false,
	} {
		require.Equal(t, want, allowsHost(allow, host), host)
	}
}
