package access

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

func TestEveryBadTokenGetsTheSameAnswer(t *testing.T) {
	s := newStage(t, nil)
	s.vault.AddToken(otherToken, "bound", grantstest.Data{"token_bound_cidrs": []string{"10.0.0.0/8"}})
	s.vault.AddToken("expired-token-123", "late", grantstest.Data{"expires_at": time.Now().Add(-time.Hour).Format(time.RFC3339)})
	s.vault.AddToken("revoked-token-123", "gone", nil)
	s.vault.Revoke("revoked-token-123")
	var first string
	for _, token := range []string{badToken, "mcpt_malformed", "short", otherToken, "expired-token-123", "revoked-token-123"} {
		response, body := s.raw(post("/servers/files/mcp", token, "x"))
		require.Equal(t, 401, response.StatusCode, token)
		require.Equal(t, challengeBadToken, response.Header.Get("WWW-Authenticate"), token)
		response.Header.Del("Date")
		var content map[string]map[string]string
		require.NoError(t, json.Unmarshal([]byte(body), &content))
		delete(content["error"], "request_id")
		got := fmt.Sprint(response.Header, content)
		if first == "" {
			first = got
		}
		// Content-Length varies with the length of the request id.
		require.Equal(t, stripLength(first), stripLength(got), token)
	}
	response, _ := s.raw(post("/servers/files/mcp", "", "x"))
	require.Equal(t, challengeNoToken, response.Header.Get("WWW-Authenticate"), "no error where no token was sent (RFC 6750, section 3.1)")
}

func stripLength(s string) string {
	before, after, _ := strings.Cut(s, "Content-Length:[")
	_, after, _ = strings.Cut(after, "]")
	return before + after
}

func TestAuditedServerIsANameAndNeverAToken(t *testing.T) {
	registered := &grants.Server{Name: "github"}
	tests := []struct {
		name string
		req  *Request
		want string
	}{
		{"a registered server", &Request{serverName: "github", Server: registered}, "github"},
		{"a server that is not registered", &Request{serverName: "git_hub-2"}, "git_hub-2"},
		{"no server", &Request{}, ""},
		{"a token", &Request{serverName: "mcpt_0000000000000000000000000000000000000000000"}, ""},
		{"a sealed token", &Request{serverName: "mcpk_00000000"}, ""},
		{"a token of one's own", &Request{serverName: "my.token~0123456789"}, ""},
		{"a path", &Request{serverName: "../x"}, ""},
		{"a line end", &Request{serverName: "a\nb"}, ""},
		{"a name without end", &Request{serverName: strings.Repeat("a", 65)}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.req.auditedServer(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

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
		"something that is not an address":           {"10.0.0.1:5", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
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
