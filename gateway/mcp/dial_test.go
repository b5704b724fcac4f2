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
