package mcp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
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

func TestServersMustBeWhereTheFileAllowsThem(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	named := strings.Replace(up.URL, "127.0.0.1", "localhost", 1)
	tests := map[string]struct {
		url    string
		allow  config.UpstreamAllow
		status int
	}{
		"anywhere":                       {up.URL, config.UpstreamAllow{}, 200},
		"in a range":                     {up.URL, config.UpstreamAllow{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, 200},
		"by name, into a range":          {named, config.UpstreamAllow{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, 200},
		"by name":                        {named, config.UpstreamAllow{Hosts: []string{"localhost"}}, 200},
		"in no range":                    {up.URL, config.UpstreamAllow{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, 502},
		"by another name":                {named, config.UpstreamAllow{Hosts: []string{"example.com"}}, 502},
		"an address where names are due": {up.URL, config.UpstreamAllow{Hosts: []string{"localhost"}}, 502},
		"a metadata service":             {"http://169.254.169.254/latest", config.UpstreamAllow{Prefixes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, 502},
		"a metadata service by name":     {"http://169.254.169.254/latest", config.UpstreamAllow{Hosts: []string{"169.254.169.254"}}, 502},
		"in IPv6":                        {"http://[::ffff:169.254.169.254]/", config.UpstreamAllow{}, 502},
		"in one number":                  {"http://2852039166/", config.UpstreamAllow{}, 502},
		"the unspecified address":        {strings.Replace(up.URL, "127.0.0.1", "0.0.0.0", 1), config.UpstreamAllow{}, 502},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := testConfig()
			c.UpstreamAllow = test.allow
			c.Upstreams = map[string]config.Upstream{"up": {Timeout: 5 * time.Second, ConnectTimeout: 5 * time.Second}}
			g := newGateway(t, c, &grants.Server{Name: "up", ID: "1", Transport: "http", URL: test.url})
			got := g.Ask(t, ping)
			require.Equal(t, test.status, got.Status)
			if test.status != 200 {
				require.NotContains(t, got.Body, "169.254")
			}
		})
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
