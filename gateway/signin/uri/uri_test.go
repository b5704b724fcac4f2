package uri

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedirectsThatApplicationsBring(t *testing.T) {
	tests := map[string]struct {
		kind Kind
		host string
	}{
		"https://chatgpt.com/connector/oauth/kDmjx77UnKOM":             {HTTPS, "chatgpt.com"},
		"https://chatgpt.com/connector_platform_oauth_redirect":        {HTTPS, "chatgpt.com"},
		"https://claude.ai/api/mcp/auth_callback":                      {HTTPS, "claude.ai"},
		"https://vscode.dev/redirect":                                  {HTTPS, "vscode.dev"},
		"https://www.cursor.com/agents/mcp/oauth/callback":             {HTTPS, "www.cursor.com"},
		"https://app.example.com:8443/cb?x=y%2Fz":                      {HTTPS, "app.example.com:8443"},
		"https://app.example.com:443/cb":                               {HTTPS, "app.example.com"},
		"https://xn--bcher-kva.example/cb":                             {HTTPS, "xn--bcher-kva.example"},
		"https://[2001:db8::1]/cb":                                     {HTTPS, "[2001:db8::1]"},
		"http://localhost:8787/callback":                               {Loopback, "localhost:8787"},
		"http://localhost/callback":                                    {Loopback, "localhost"},
		"http://127.0.0.1:33418/":                                      {Loopback, "127.0.0.1:33418"},
		"http://127.0.0.1:33418":                                       {Loopback, "127.0.0.1:33418"},
		"http://[::1]:1234/callback":                                   {Loopback, "[::1]:1234"},
		"http://127.0.0.1:443/":                                        {Loopback, "127.0.0.1:443"},
		"cursor://anysphere.cursor-mcp/oauth/callback":                 {Private, ""},
		"vscode://vscode.github-authentication/did-authenticate?nonce": {Private, ""},
		"com.example.app:/oauth2redirect":                              {Private, ""},
	}
	for text, want := range tests {
		u, err := ParseRedirect(text)
		require.NoError(t, err, text)
		require.Equal(t, want.kind, u.Kind, text)
		require.Equal(t, want.host, u.Host, text)
		require.Equal(t, text, u.Text)
	}
}

func TestURIsThatTwoProgramsCouldReadInTwoWays(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                                "",
		"no scheme":                              "//host/path",
		"a path":                                 "/callback",
		"a word":                                 "callback",
		"a fragment":                             "https://host/cb#x",
		"an empty fragment":                      "https://host/cb#",
		"a user":                                 "https://user@host/cb",
		"a user that looks like the host":        "https://claude.ai@evil.example/cb",
		"a password":                             "https://user:password@host/cb",
		"an empty user":                          "https://@host/cb",
		"a user in a private scheme":             "cursor://user@host/cb",
		"a part ..":                              "https://host/a/../b",
		"a part .. at the end":                   "https://host/a/..",
		"a part .":                               "https://host/./b",
		"an escaped ..":                          "https://host/a/%2e%2E/b",
		"half an escaped ..":                     "https://host/a/.%2e/b",
		"a part .. with a parameter":             "https://host/a/..;x=y/b",
		"a part .. in a private scheme":          "cursor://host/a/../b",
		"an escaped slash":                       "https://host/a%2Fb",
		"an escaped slash in a private scheme":   "cursor://host/a%2fb",
		"an escaped backslash":                   "https://host/a%5cb",
		"an escaped percent sign":                "https://host/a%252e",
		"an escaped NUL":                         "https://host/a%00",
		"an escaped line break":                  "https://host/a%0d%0aSet-Cookie:x",
		"a backslash":                            `https://host\evil.example/cb`,
		"a backslash behind the scheme":          `https:\\host/cb`,
		"a tab":                                  "https://ho\tst/cb",
		"a line break":                           "https://host/cb\nx",
		"a space":                                "https://host/c b",
		"a space in front":                       " https://host/cb",
		"a character beyond ASCII":               "https://hóst/cb",
		"a full-width dot":                       "https://host．example/cb",
		"quotes":                                 `https://host/"cb"`,
		"an angle bracket":                       "https://host/<cb>",
		"a broken escape":                        "https://host/%zz",
		"no host":                                "https:///cb",
		"no host but a port":                     "https://:443/cb",
		"no slashes":                             "https:host/cb",
		"one slash":                              "https:/host/cb",
		"three slashes":                          "https:///host/cb",
		"a scheme in upper case":                 "HTTPS://host/cb",
		"a host in upper case":                   "https://HOST/cb",
		"a dot behind the host":                  "https://host./cb",
		"an empty label":                         "https://a..b/cb",
		"an escape in the host":                  "https://ho%73t/cb",
		"an address in one number":               "https://2130706433/cb",
		"an address in hex":                      "https://0x7f000001/cb",
		"an address with fewer parts":            "https://127.1/cb",
		"an address in octal":                    "https://0177.0.0.1/cb",
		"an address with a zone":                 "https://[fe80::1%25eth0]/cb",
		"an address that is not in its one form": "https://[0:0:0:0:0:0:0:1]/cb",
		"an IPv4 address in brackets":            "https://[127.0.0.1]/cb",
		"an empty port":                          "https://host:/cb",
		"port 0":                                 "http://localhost:0/cb",
		"a port out of range":                    "https://host:65536/cb",
		"a port with a zero in front":            "https://host:0443/cb",
		"a port that is no number":               "https://host:x/cb",
		"http to another machine":                "http://host/cb",
		"http to an address":                     "http://10.0.0.1/cb",
		"http to what begins as the loopback":    "http://localhost.evil.example/cb",
		"http to what ends as the loopback":      "http://evil.localhost/cb",
		"http to another loopback address":       "http://127.0.0.2/cb",
		"http to the unspecified address":        "http://0.0.0.0:8080/cb",
		"a mapped loopback address":              "http://[::ffff:127.0.0.1]/cb",
		"an underscore at the end":               "https://host_/cb",
		"javascript":                             "javascript:alert(1)",
		"javascript with slashes":                "javascript://host/%0aalert(1)",
		"javascript in mixed case":               "JavaScript:alert(1)",
		"javascript with a tab":                  "java\tscript:alert(1)",
		"data":                                   "data:text/html,x",
		"vbscript":                               "vbscript:x",
		"a file":                                 "file:///etc/passwd",
		"a blob":                                 "blob:https://host/x",
		"a page's source":                        "view-source:https://host/x",
		"about":                                  "about:blank",
		"mail":                                   "mailto:a@b.example",
		"Android's intent":                       "intent://host/#Intent;end",
		"a program of Windows":                   "ms-msdt:/id",
		"web sockets":                            "wss://host/x",
		"an opaque private scheme":               "cursor:callback",
		"a scheme that begins with a digit":      "1app://x/cb",
		"a URN":                                  "urn:ietf:wg:oauth:2.0:oob",
		"more than the bound":                    "https://host/" + strings.Repeat("a", Max),
		"a code of its own":                      "https://host/cb?code=x",
		"a state of its own":                     "https://host/cb?a=b&state=x",
		"an issuer of its own":                   "http://localhost/cb?iss=x",
		"an escaped code":                        "https://host/cb?c%6fde=x",
		"an error of its own":                    "cursor://host/cb?error=access_denied",
		"a query with semicolons":                "https://host/cb?a=b;code=x",
		"a broken query":                         "https://host/cb?a=%zz",
	} {
		_, err := ParseRedirect(text)
		require.Error(t, err, "%s: %s", name, text)
	}
}

func TestLoopbackRedirectsMatchWithoutThePort(t *testing.T) {
	tests := []struct {
		registered, asked string
		want              bool
	}{
		{"http://localhost/callback", "http://localhost:58135/callback", true},
		{"http://localhost:58135/callback", "http://localhost/callback", true},
		{"http://localhost:1/callback", "http://localhost:2/callback", true},
		{"http://127.0.0.1/", "http://127.0.0.1:33418/", true},
		{"http://127.0.0.1/", "http://127.0.0.1:33418", true},
		{"http://127.0.0.1:33418", "http://127.0.0.1:5000/", true},
		{"http://[::1]/cb", "http://[::1]:9/cb", true},
		{"http://localhost/cb?a=b", "http://localhost:9/cb?a=b", true},
		{"http://localhost/callback", "http://127.0.0.1:58135/callback", false},
		{"http://127.0.0.1/callback", "http://[::1]:58135/callback", false},
		{"http://localhost/callback", "http://localhost:58135/other", false},
		{"http://localhost/callback", "http://localhost:58135/callback/", false},
		{"http://localhost/callback", "http://localhost:58135/callback?x=y", false},
		{"http://localhost/callback", "http://localhost:58135/callback?", false},
		{"http://localhost/cb", "http://localhost:58135/CB", false},
		{"http://localhost/callback", "https://localhost:58135/callback", false},
		{"https://localhost/callback", "https://localhost:8443/callback", false},
		{"https://host/cb", "https://host/cb", true},
		{"https://host/cb", "https://host:443/cb", false},
		{"https://host/cb", "https://host/cb/", false},
		{"https://host/cb", "https://host/cb?x=y", false},
		{"https://host/", "https://host", false},
		{"https://host/cb", "https://host:8443/cb", false},
		{"cursor://a/cb", "cursor://a/cb", true},
		{"cursor://a/cb", "cursor://b/cb", false},
		{"cursor://a:1/cb", "cursor://a:2/cb", false},
	}
	for _, test := range tests {
		registered, err := ParseRedirect(test.registered)
		require.NoError(t, err, test.registered)
		asked, err := ParseRedirect(test.asked)
		require.NoError(t, err, test.asked)
		require.Equal(t, test.want, asked.Matches(registered), "%s for %s", test.asked, test.registered)
	}
}

func TestPrefixesAreNotWidened(t *testing.T) {
	tests := []struct {
		prefix, url string
		want        bool
	}{
		{"https://claude.ai/oauth/", "https://claude.ai/oauth/claude-code-client-metadata", true},
		{"https://claude.ai/oauth/", "https://claude.ai:443/oauth/x", true},
		{"https://chatgpt.com/oauth/", "https://chatgpt.com/oauth/kDmjx77UnKOM/client.json", true},
		{"https://app.example.com:8443/a/", "https://app.example.com:8443/a/b", true},
		{"https://host/a/client.json", "https://host/a/client.json", true},
		{"https://claude.ai/oauth/", "https://claude.ai/oauth/", false},
		{"https://claude.ai/oauth/", "https://claude.ai/oauth", false},
		{"https://claude.ai/oauth/", "https://claude.ai/oauthx/y", false},
		{"https://claude.ai/oauth/", "https://claude.ai/OAuth/y", false},
		{"https://claude.ai/oauth/", "https://claude.ai/x/oauth/y", false},
		{"https://claude.ai/oauth/", "https://claude.ai.evil.example/oauth/y", false},
		{"https://claude.ai/oauth/", "https://evil.example/oauth/y", false},
		{"https://claude.ai/oauth/", "https://evilclaude.ai/oauth/y", false},
		{"https://claude.ai/oauth/", "https://claude.ai:8443/oauth/y", false},
		{"https://claude.ai/oauth/", "https://x.claude.ai/oauth/y", false},
		{"https://app.example.com:8443/a/", "https://app.example.com/a/b", false},
		{"https://host/a/client.json", "https://host/a/client.json/x", false},
		{"https://host/a/client.json", "https://host/a/client.jsonx", false},
	}
	for _, test := range tests {
		prefix, err := ParsePrefix(test.prefix)
		require.NoError(t, err, test.prefix)
		u, err := Parse(test.url)
		require.NoError(t, err, test.url)
		require.Equal(t, test.want, prefix.Contains(u), "%s in %s", test.url, test.prefix)
	}
	for _, text := range []string{
		"https://claude.ai@evil.example/oauth/y", "https://claude.ai/oauth/../x", "https://claude.ai/oauth/%2e%2e/x", "https://claude.ai/oauth/..%2fx",
		"https://claude.ai/oauth/..;/x", "https://claude.ai/oauth%2fx", `https://claude.ai\oauth/x`, "https://CLAUDE.AI/oauth/x", "https://claude.ai./oauth/x",
		"https://claude.ai%2eevil.example/oauth/x", "https://claude.ai/oauth/x#y",
	} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
}

func TestPrefixesOfTheFile(t *testing.T) {
	for _, text := range []string{
		"claude.ai/oauth/", "http://claude.ai/oauth/", "http://localhost/oauth/", "https://claude.ai", "https://claude.ai/", "https://claude.ai/oauth/?x",
		"https://*.claude.ai/oauth/", "https://claude.ai/oauth/*", "https://claude.ai:443/oauth/", "https://claude.ai/a//b/", "cursor://x/y/", "",
		"https://claude.ai//",
	} {
		_, err := ParsePrefix(text)
		require.Error(t, err, text)
	}
	_, err := ParsePrefix("https://claude.ai:443/oauth/")
	require.ErrorContains(t, err, `write it as "https://claude.ai/oauth/"`)
	open, err := ParsePrefix("https://claude.ai/oauth/")
	require.NoError(t, err)
	require.True(t, open.Open())
	exact, err := ParsePrefix("https://claude.ai/oauth")
	require.NoError(t, err)
	require.False(t, exact.Open())
	require.Equal(t, "claude.ai", exact.Host())
}

func TestURLsOfDocumentsHaveAPathAndNoQuery(t *testing.T) {
	for _, text := range []string{"https://host", "https://host/", "https://host/a?b", "https://host/a?", "http://localhost/a", "cursor://host/a"} {
		_, err := ParseURL(text)
		require.Error(t, err, text)
	}
	_, err := ParseURL("https://host/a")
	require.NoError(t, err)
}

func TestHostsAndSchemesOfTheFile(t *testing.T) {
	for host, want := range map[string]bool{
		"vscode.dev": true, "app.example.com:8443": true, "[::1]": true, "10.0.0.1": true,
		"VSCODE.dev": false, "vscode.dev:443": false, "https://vscode.dev": false, "vscode.dev/": false, "vscode.dev/x": false, "*.vscode.dev": false,
		"": false, "a b": false, "u@vscode.dev": false, "vscode.dev?x": false, "vscode.dev#x": false, "vscode.dev.": false,
	} {
		require.Equal(t, want, CheckHost(host) == nil, host)
	}
	for scheme, want := range map[string]bool{
		"cursor": true, "vscode-insiders": true, "com.example.app": true,
		"": false, "Cursor": false, "cursor:": false, "cursor://": false, "javascript": false, "data": false, "https": false, "http": false, "file": false,
		"ms-officecmd": false, "search-ms": false, "1a": false, "a b": false, strings.Repeat("a", 65): false,
	} {
		require.Equal(t, want, CheckScheme(scheme) == nil, scheme)
	}
}

// FuzzParseRedirect: a parsed URI has no part that a browser reads in another way, and is
// compared with itself as equal.
func FuzzParseRedirect(f *testing.F) {
	for _, text := range []string{
		"https://claude.ai/api/mcp/auth_callback", "http://localhost:8787/callback", "cursor://anysphere.cursor-mcp/oauth/callback", "https://a@b/c",
		"http://[::1]:9/x?y=z", "https://host/%2e%2e", "javascript:alert(1)", "com.example.app:/cb", "https://[::1%25a]/", "https://127.0.0.1/a//b",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseRedirect(text)
		if err != nil {
			return
		}
		again, err := url.Parse(text)
		if err != nil || again.User != nil || again.Fragment != "" || strings.Contains(text, "#") || strings.ContainsAny(text, "\\\t\r\n ") {
			t.Fatalf("%q is read as %+v", text, u)
		}
		if strings.Contains(again.Path, "/../") || u.Kind == Loopback && !IsLoopback(strings.TrimSuffix(u.Host, ":"+again.Port())) {
			t.Fatalf("%q is read as %+v", text, u)
		}
		if !u.Matches(u) || len(text) > Max {
			t.Fatalf("%q does not match itself", text)
		}
		if again, err := ParseRedirect(u.WithoutPort()); err != nil || !again.Matches(u) {
			t.Fatalf("%q without its port is %q: %v", text, u.WithoutPort(), err)
		}
	})
}
