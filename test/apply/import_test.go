package apply

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// The tokens in the files of testdata/mcpjungle, inline and by reference.
const (
	cursorToken = "1YHf2LwE1LXtp5lW_vM-gmdYHlPHdqwnILitBhXE4Aw"
	claudeToken = "my_secret_token_123"
	agentToken  = "Zr0gQm3kL1aVb7xN9sTeYw2uHc5pJd8fKq4iMo6nRtE"
)

// TestClientsOfMCPJungleKeepTheirTokens applies MCPJungle's own
// files, unchanged: those that its documentation shows for servers and clients, and
// what its API lists. Then each client connects with the token that it is configured
// with already.
func TestClientsOfMCPJungleKeepTheirTokens(t *testing.T) {
	a := newApplying(t)
	for _, secret := range []string{cursorToken, claudeToken, agentToken} {
		a.Secret(secret)
	}
	upstream := a.StartUpstream(nil)
	files, err := filepath.Glob(filepath.Join("testdata", "mcpjungle", "*"))
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, path := range files {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		a.file(t, filepath.Base(path), string(content))
	}
	u, err := url.Parse(upstream.URL)
	require.NoError(t, err)
	a.env = append(a.env, "CALCULATOR_PORT="+u.Port(), "CALCULATOR_TOKEN="+upstreamToken, "HOME_DIR=/srv", "AGENT_TOKEN="+agentToken)

	out := a.applied(t)
	for _, secret := range []string{cursorToken, claudeToken, agentToken, upstreamToken} {
		require.NotContains(t, out, secret)
	}
	for _, want := range []string{
		`"session_mode" has no meaning here`, `"oauth_…" has no meaning here`,
		"warning: the access_token has fewer than 32 characters",
	} {
		require.Contains(t, out, want)
	}
	require.Contains(t, a.applied(t), "Nothing to do")
	require.Equal(t, []any{"-y", "@modelcontextprotocol/server-filesystem", "/srv"}, a.Read("mcp/servers/filesystem")["args"])
	require.Equal(t, "sse", a.Read("mcp/servers/legacy")["transport"])

	gateway := a.StartGateway(harness.GatewayOptions{})
	for name, token := range map[string]string{"what the API lists": cursorToken, "an inline token": claudeToken, "a token by reference": agentToken} {
		t.Run(name, func(t *testing.T) {
			session := a.Connect(gateway.ServerURL(stage.Calculator), token)
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "add", Arguments: map[string]any{"a": 40, "b": 2}})
			require.NoError(t, err)
			require.False(t, result.IsError)
		})
	}
	last := upstream.Requests()[upstream.Count()-1]
	require.Equal(t, "Bearer "+upstreamToken, last.Header.Get("Authorization"), "the server's own credential was not carried over")
	r := a.Call(gateway.ServerURL("filesystem"), claudeToken, "read_file", `{}`)
	require.Equal(t, http.StatusForbidden, r.Status, "the allow-list was not carried over")
}
