package names

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/yosida95/uritemplate/v3"
)

func TestSplitURIReadsWhatJoinURIMade(t *testing.T) {
	for _, uri := range []string{
		"file:///etc/hosts",
		"test://static-text",
		"http://[::1]:8080/a?b=c&d=%2F#e",
		"mcp://other/file:///a",
		"mcpj://res/other/ZmlsZTovLy9h",
		"urn:isbn:0451450523",
		"a/../b//c",
		"with spaces and ümlauts",
		"/",
		"ui://page",
		"ui://weather/board.html?a=b#c",
		"ui:///page",
		"ui://",
		"UI://page",
		"ui:page",
		"mcp://other/ui://page",
		"ui://other/page",
	} {
		t.Run(uri, func(t *testing.T) {
			joined := JoinURI("files-1", uri)
			server, got, ok := SplitURI(joined)
			require.True(t, ok)
			require.Equal(t, []string{"files-1", uri}, []string{server, got})
		})
	}
}

func TestAPageThatATemplateNamesIsFound(t *testing.T) {
	server, uri, ok := SplitURI(URIPrefix("clock") + "ui://page")
	require.True(t, ok)
	require.Equal(t, []string{"clock", "ui://page"}, []string{server, uri})
}

func TestPagesOfAppsKeepTheirScheme(t *testing.T) {
	require.Equal(t, "ui://clock/get-time/app.html", JoinURI("clock", "ui://get-time/app.html"))
	require.Equal(t, "ui://clock/bank/page", JoinURI("clock", "ui://bank/page"), "a page that names another server is still its own")
	require.Equal(t, "mcp://clock/test://a", JoinURI("clock", "test://a"))
}

func TestJoinedURIsAreURIsThatParsersLeaveAlone(t *testing.T) {
	for _, uri := range []string{"file:///etc/hosts", "test://Static-Text?a=b#c", "https://example.com"} {
		joined := JoinURI("My_server-1", uri)
		parsed, err := url.Parse(joined)
		require.NoError(t, err)
		require.Equal(t, "My_server-1", parsed.Host)
		require.Equal(t, joined, parsed.String())
	}
}

func TestSplitURIReadsMCPJunglesForm(t *testing.T) {
	tests := map[string]string{
		"the standard alphabet":     "mcpj://res/files/" + base64.RawStdEncoding.EncodeToString([]byte("test://a?b>c~~~ÿÿÿ")),
		"the alphabet that is safe": "mcpj://res/files/" + base64.RawURLEncoding.EncodeToString([]byte("test://a?b>c~~~ÿÿÿ")),
	}
	for name, joined := range tests {
		t.Run(name, func(t *testing.T) {
			server, uri, ok := SplitURI(joined)
			require.True(t, ok)
			require.Equal(t, []string{"files", "test://a?b>c~~~ÿÿÿ"}, []string{server, uri})
		})
	}
}

func TestSplitURIRefusesWhatNeitherMade(t *testing.T) {
	tests := map[string]string{
		"nothing":                       "",
		"a server's own URI":            "file:///etc/hosts",
		"another scheme":                "mcps://files/file:///a",
		"a scheme in capitals":          "MCP://files/file:///a",
		"no server":                     "mcp:///file:///a",
		"no URI":                        "mcp://files/",
		"no slash":                      "mcp://files",
		"a server with a port":          "mcp://files:80/file:///a",
		"a server with a user":          "mcp://me@files/file:///a",
		"a server in two parts":         "mcp://fi__les/file:///a",
		"a server with a dot":           "mcp://../file:///a",
		"an escaped server":             "mcp://fil%65s/file:///a",
		"a page without a server":       "ui:///page",
		"a page of a server alone":      "ui://files",
		"a server without a page":       "ui://files/",
		"a page of a server with a dot": "ui://a.b/page",
		"MCPJungle's, without a server": "mcpj://res//ZmlsZTovLy9h",
		"MCPJungle's, without a URI":    "mcpj://res/files/",
		"MCPJungle's, with padding":     "mcpj://res/files/ZmlsZTovLy9hYg==",
		"MCPJungle's, no base64":        "mcpj://res/files/file:///a",
		"MCPJungle's, stray bits":       "mcpj://res/files/ZmlsZTovLy9hYh",
		"MCPJungle's, no UTF-8":         "mcpj://res/files/_w",
	}
	for name, joined := range tests {
		t.Run(name, func(t *testing.T) {
			server, uri, ok := SplitURI(joined)
			require.False(t, ok)
			require.Empty(t, server+uri)
		})
	}
}

// TestTemplatesSurviveThePrefix: the expansion of a prefixed template is the expansion of
// the server's own template, prefixed.
func TestTemplatesSurviveThePrefix(t *testing.T) {
	values := uritemplate.Values{}
	values.Set("var", uritemplate.String("a/b c"))
	values.Set("list", uritemplate.List("red", "green"))
	values.Set("keys", uritemplate.KV("semi", ";", "dot", "."))
	values.Set("empty", uritemplate.String(""))
	for _, template := range []string{
		"file:///{var}", "{var}", "{+var}", "{#var}", "x{.list*}", "{/var,empty}", "{;keys*}",
		"test://{var:3}/{?keys*}", "{?var,undefined}", "a{&list*}", "{scheme}://x", "ü{var}%20", "ui://{var}", "ui://x{/list*}",
	} {
		t.Run(template, func(t *testing.T) {
			expand := func(template string) string {
				parsed, err := uritemplate.New(template)
				require.NoError(t, err)
				expanded, err := parsed.Expand(values)
				require.NoError(t, err)
				return expanded
			}
			require.Equal(t, JoinURI("my-server_1", expand(template)), expand(JoinURI("my-server_1", template)))
		})
	}
}

// FuzzURIs holds that URIs are reversible in both directions, and templates
// through their expansion.
func FuzzURIs(f *testing.F) {
	f.Add("files", "file:///a", "value")
	f.Add("a", "mcp://b/c", "/")
	f.Add("x", "{+var}{?var}", "ü")
	f.Add("x", "mcpj://res/a/ZmlsZTovLy9h", "")
	f.Add("x", "ui://a/b", "c")
	f.Add("x", "ui://{x}", "")
	f.Fuzz(func(t *testing.T, server, uri, value string) {
		if isServer(server) && uri != "" {
			gotServer, gotURI, ok := SplitURI(JoinURI(server, uri))
			if !ok || gotServer != server || gotURI != uri {
				t.Fatalf("%q of %q became %q of %q", uri, server, gotURI, gotServer)
			}
			templates(t, server, uri, value)
		}
		if gotServer, gotURI, ok := SplitURI(uri); ok && !strings.HasPrefix(uri, "mcpj:") {
			again := JoinURI(gotServer, gotURI)
			if strings.HasPrefix(uri, "mcp:") {
				again = URIPrefix(gotServer) + gotURI // a page that a template has named
			}
			if again != uri {
				t.Fatalf("%q was split, and became %q", uri, again)
			}
		}
	})
}

func templates(t *testing.T, server, template, value string) {
	t.Helper()
	bare, err := uritemplate.New(template)
	if err != nil {
		return
	}
	prefixed, err := uritemplate.New(JoinURI(server, template))
	if err != nil {
		t.Fatalf("%q is a template, prefixed it is none: %v", template, err)
	}
	values := uritemplate.Values{}
	for _, name := range bare.Varnames() {
		values.Set(name, uritemplate.String(value))
	}
	want, err := bare.Expand(values)
	if err != nil {
		return
	}
	if want == "" || want == UIScheme {
		return // no resource has such a name
	}
	got, err := prefixed.Expand(values)
	if err == nil && got != JoinURI(server, want) { // see SplitURI
		var gotServer, gotURI string
		gotServer, gotURI, _ = SplitURI(got)
		got = JoinURI(gotServer, gotURI)
	}
	if err != nil || got != JoinURI(server, want) {
		t.Fatalf("%q expands to %q, prefixed to %q: %v", template, want, got, err)
	}
}
