package access

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func TestSourceIsTheLastAddressThatNoTrustedProxyHas(t *testing.T) {
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	tests := map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"a client that connects itself":              {"192.0.2.1:5", nil, "192.0.2.1"},
		"a client that claims to be another":         {"192.0.2.1:5", []string{"198.51.100.1"}, "192.0.2.1"},
		"a trusted proxy":                            {"10.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1"},
		"a trusted proxy without the header":         {"10.0.0.1:5", nil, "10.0.0.1"},
		"what the client wrote before":               {"10.0.0.1:5", []string{"203.0.113.1, 198.51.100.1"}, "198.51.100.1"},
		"two trusted proxies":                        {"10.0.0.1:5", []string{"198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"two headers":                                {"10.0.0.1:5", []string{"203.0.113.1", "198.51.100.1"}, "198.51.100.1"},
		"a client that claims to be a trusted proxy": {"10.0.0.1:5", []string{"203.0.113.1, 10.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		"nobody but trusted proxies":                 {"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"something that is no address":               {"10.0.0.1:5", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		"an empty header":                            {"10.0.0.1:5", []string{""}, "10.0.0.1"},
		"an address with a port":                     {"10.0.0.1:5", []string{"198.51.100.1:4444"}, "198.51.100.1"},
		"IPv6":                                       {"[2001:db8:1::1]:5", []string{"2001:db8:2::2"}, "2001:db8:2::2"},
		"IPv6 with a port":                           {"[2001:db8:1::1]:5", []string{"[2001:db8:2::2]:4444"}, "2001:db8:2::2"},
		"an IPv4 proxy on an IPv6 socket":            {"[::ffff:10.0.0.1]:5", []string{"198.51.100.1"}, "198.51.100.1"},
		"a zone":                                     {"[fe80::1%eth0]:5", nil, "fe80::1"},
		"a socket without an address":                {"@", nil, "invalid IP"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
			if test.forwarded != nil {
				r.Header["X-Forwarded-For"] = test.forwarded
			}
			require.Equal(t, test.want, trusted.source(r).String())
		})
	}
}

func TestHostMustBeTheGatewaysOwn(t *testing.T) {
	public, err := url.Parse("https://mcp.example.com")
	require.NoError(t, err)
	loopback := config.Listener{Address: "127.0.0.1:8080"}
	everywhere := config.Listener{Address: "0.0.0.0:8080"}
	named := config.Listener{Address: ":8080", PublicURL: public, AllowedHosts: []string{"Other.example.com", "ported.example.com:8443"}}
	tests := map[string]struct {
		listener config.Listener
		allows   []string
		refuses  []string
	}{
		"on the loopback": {
			loopback,
			[]string{"127.0.0.1:8080", "localhost:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.0.0.2"},
			[]string{"", "evil.example", "evil.example:8080", "10.0.0.1:8080", "localhost.evil.example", "127.0.0.1.evil.example"},
		},
		"on all interfaces without a name": {
			everywhere,
			[]string{"10.0.0.1:8080", "localhost", "[2001:db8::1]:8080"},
			[]string{"", "evil.example", "mcp.example.com"},
		},
		"with names": {
			named,
			[]string{"mcp.example.com", "MCP.example.com:443", "other.example.com:99", "ported.example.com:8443", "127.0.0.1:8080"},
			[]string{"", "evil.example", "ported.example.com", "ported.example.com:1", "10.0.0.1:8080", "x.mcp.example.com"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHosts(test.listener)
			for _, host := range test.allows {
				require.True(t, h.allows(host), host)
			}
			for _, host := range test.refuses {
				require.False(t, h.allows(host), host)
			}
		})
	}
}

func TestListedOriginMayUseTheGatewayFromAPage(t *testing.T) {
	s := newStage(t, func(o *Options) { o.Listener.AllowedOrigins = []string{"https://app.example.com"} })
	preflight := "OPTIONS /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example.com\r\n" +
		"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, content-type, Mcp-Param-City, x-evil\r\n\r\n"
	response, _ := s.raw(preflight)
	require.Equal(t, http.StatusNoContent, response.StatusCode, "before authentication: browsers send no token here")
	require.Equal(t, "https://app.example.com", response.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "authorization, content-type, mcp-param-city", response.Header.Get("Access-Control-Allow-Headers"))
	require.Empty(t, response.Header.Get("Access-Control-Allow-Credentials"))

	response, _ = s.raw(post("/servers/files/mcp", goodToken, "x", "Origin: https://app.example.com"))
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "https://app.example.com", response.Header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, response.Header.Get("Access-Control-Expose-Headers"), "Mcp-Session-Id")

	for _, origin := range []string{"https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:444", "null"} {
		response, _ = s.raw(post("/servers/files/mcp", goodToken, "x", "Origin: "+origin))
		require.Equal(t, http.StatusForbidden, response.StatusCode, origin)
		require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
	}
}
