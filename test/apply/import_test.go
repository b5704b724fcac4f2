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

// TestServersOfMCPClientsAreRegistered applies the files that Claude Code, VS Code and Codex
// have in a project, and calls the tools of the servers that were taken over.
func TestServersOfMCPClientsAreRegistered(t *testing.T) {
	t.Parallel()
	const header, typed = "header-of-a-server-in-mcp-json", "answer-to-an-input-of-vs-code"
	a := newApplying(t)
	a.Secret(typed)
	upstream := a.StartUpstream(nil)
	a.env = append(a.env, "CALCULATOR_KEY="+header, "INPUT_THE_KEY="+typed)
	for name, content := range map[string]string{
		".mcp.json": `{"mcpServers": {"The calculator": {"type": "http", "url": "` + upstream.URL + `", "headers": {"X-Key": "${CALCULATOR_KEY}"}}}}`,
		".vscode/mcp.json": `{
  // the variables of the project
  "servers": {"files": {"command": "npx", "args": ["-y", "files-mcp", "--key=${env:CALCULATOR_KEY}"], "env": {"KEY": "${input:the-key}"}, "gallery": "x"}},
  "inputs": [{"id": "the-key", "type": "promptString", "password": true}],
}`,
		".vscode/launch.json": `{"this": "is not read"}`,
		".codex/config.toml":  "[mcp_servers.docs]\nurl = \"https://docs.example.com/mcp\"\nenabled = false\n",
		"clients.hcl":         `client "editor" { allowed_servers = ["The-calculator"] }`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(a.dir, name)), 0o700))
		a.file(t, name, content)
	}
	tokens := filepath.Join(a.Dir, "tokens")
	out := a.applied(t, "-token-dir", tokens)
	require.Contains(t, out, `server "The calculator": it becomes "The-calculator"`)
	require.Contains(t, out, filepath.Join(".vscode", "mcp.json")+`:3,`)
	require.Contains(t, out, `"--key=${env:CALCULATOR_KEY}"`)
	require.Contains(t, out, "argument 3 looks like a secret")
	require.NotContains(t, out, header)
	require.NotContains(t, out, typed)
	require.Contains(t, a.applied(t, "-token-dir", tokens), "Nothing to do")
	require.Equal(t, true, a.Read("mcp/servers/docs")["disabled"])
	require.Equal(t, []any{"-y", "files-mcp", "--key=" + header}, a.Read("mcp/servers/files")["args"])

	token, err := os.ReadFile(filepath.Join(tokens, "editor"))
	require.NoError(t, err)
	a.Secret(string(token))
	gateway := a.StartGateway(harness.GatewayOptions{})
	session := a.Connect(gateway.ServerURL("The-calculator"), string(token))
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "add", Arguments: map[string]any{"a": 40, "b": 2}})
	require.NoError(t, err)
	require.False(t, result.IsError)
	last := upstream.Requests()[upstream.Count()-1]
	require.Equal(t, header, last.Header.Get("X-Key"))

	// A mistake in one file changes nothing.
	a.file(t, ".mcp.json", `{"mcpServers": {"socket": {"type": "ws", "url": "wss://example.com"}, "fine": {"url": "https://example.com/mcp"}}}`)
	a.refused(t, []string{"nothing was changed", ".mcp.json:1,17", `there is no transport "ws" here`})
	require.NotContains(t, a.List("mcp/servers"), "fine")
}
