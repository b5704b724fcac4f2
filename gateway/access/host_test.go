package access

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func TestHostMustBeTheGatewaysOwn(t *testing.T) {
	public, err := url.Parse("https://mcp.example.com")
	require.NoError(t, err)
	loopback := config.Listener{Address: "127.0.0.1:8080"}
	everywhere := config.Listener{Address: "0.0.0.0:8080"}
	named := config.Listener{Address: ":8080", PublicURL: public, AllowedHosts: []string{"Other.example.com", "ported.example.com:8443", "usual.example.com:443"}}
	public, err = url.Parse("https://mcp.example.com:8443")
	require.NoError(t, err)
	namedWithPort := config.Listener{Address: ":8080", PublicURL: public}
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
			[]string{"mcp.example.com", "MCP.example.com:443", "mcp.example.com.", "other.example.com:99", "ported.example.com:8443", "usual.example.com", "127.0.0.1:8080"},
			[]string{"", "evil.example", "ported.example.com", "ported.example.com:1", "10.0.0.1:8080", "x.mcp.example.com"},
		},
	}
	tests["with a name whose port a proxy leaves out"] = struct {
		listener config.Listener
		allows   []string
		refuses  []string
	}{
		namedWithPort,
		[]string{"mcp.example.com", "mcp.example.com:8443"},
		[]string{"evil.example", "example.com"},
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

func TestRefusedHostNamesTheSetting(t *testing.T) {
	s := newStage(t, func(o *Options) { o.Listener.AllowedOrigins = []string{"https://app.example.com"} })
	request := strings.Replace(post("/servers/files/mcp", goodToken, "x", "Origin: https://app.example.com"), "Host: 127.0.0.1:8080", "Host: gateway_backend", 1)
	response, body := s.raw(request)
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	require.Contains(t, body, "gateway_backend")
	require.Contains(t, body, "allowed_hosts")
	require.Contains(t, body, "public_url")
	require.Equal(t, "https://app.example.com", response.Header.Get("Access-Control-Allow-Origin"), "so that the page can show it")
	require.Contains(t, s.text(), `"detail":"Host: gateway_backend"`)
}

func TestOriginsBelowANameAreAllowed(t *testing.T) {
	o := newOrigins([]string{"https://*.example.com", "https://*.example.org:8443", "http://localhost:6274"})
	for _, origin := range []string{"https://a.example.com", "https://A.b.Example.com", "https://x.example.org:8443", "http://localhost:6274"} {
		require.True(t, o.allows(origin), origin)
	}
	for _, origin := range []string{
		"", "null", "https://example.com", "http://a.example.com", "https://a.example.com:444", "https://a.example.com.evil.example", "https://evilexample.com",
		"https://.example.com", "https://a..example.com", "https://evil.example/.example.com", "https://evil@a.example.com", "https://evil:1.example.com", "https://x.example.org",
		"https://*.example.com", "http://localhost", "http://localhost:62740",
	} {
		require.False(t, o.allows(origin), origin)
	}
}

// A page that may use the gateway sees every answer.
func TestPageOfAListedOriginSeesEveryAnswer(t *testing.T) {
	s := newStage(t, func(o *Options) { o.Listener.AllowedOrigins = []string{"https://*.example.com"} })
	const origin = "Origin: https://app.example.com"
	for path, status := range map[string]int{"/": 404, "/servers/files": 404, "/.well-known/oauth-authorization-server": 404, "/servers/github/mcp": 403, "/servers/files/mcp": 200} {
		response, body := s.raw(post(path, goodToken, "x", origin))
		require.Equal(t, status, response.StatusCode, path)
		require.NotEmpty(t, body)
		require.Equal(t, "https://app.example.com", response.Header.Get("Access-Control-Allow-Origin"), path)
		require.Equal(t, "Origin", response.Header.Get("Vary"), path)

		response, _ = s.raw("OPTIONS " + path + " HTTP/1.1\r\nHost: localhost\r\n" + origin + "\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n")
		require.Equal(t, http.StatusNoContent, response.StatusCode, path)
		require.Equal(t, "https://app.example.com", response.Header.Get("Access-Control-Allow-Origin"), path)
		require.Equal(t, "authorization", response.Header.Get("Access-Control-Allow-Headers"), path)
	}
	response, _ := s.raw(post("/", goodToken, "x", "Origin: https://evil.example"))
	require.Equal(t, http.StatusNotFound, response.StatusCode)
	require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
	response, _ = s.raw("OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n")
	require.Equal(t, http.StatusNotFound, response.StatusCode)
	require.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
}
