package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// claude is Claude Code with a home of its own, and a model where it would ask
// Anthropic's. Its package starts the program for the machine; that needs no
// script of the package to have run.
func (s *stage) claude(t *testing.T, home string, m *model, token string, args ...string) *exec.Cmd {
	t.Helper()
	wrapper := s.modules.Path("@anthropic-ai", "claude-code", "cli-wrapper.cjs")
	cmd := s.command(t, s.modules.Node, append([]string{wrapper}, args...)...)
	cmd.Dir = home
	cmd.Env = append(s.environment(home),
		"MCP_TOKEN="+token, "ANTHROPIC_BASE_URL="+m.URL, "ANTHROPIC_API_KEY=none",
		// It would connect in the background, and have the model search for tools.
		"MCP_CONNECTION_NONBLOCKING=false", "ENABLE_TOOL_SEARCH=false",
	)
	return cmd
}

// claudeHome is a home in which the user has added one server, called it.
func claudeHome(t *testing.T, url string) string {
	t.Helper()
	home := t.TempDir()
	config, err := json.Marshal(harness.Map{"mcpServers": harness.Map{"it": harness.Map{
		"type": "http", "url": url, "headers": harness.Map{"Authorization": "Bearer ${MCP_TOKEN}"},
	}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, ".claude.json"), config, 0o600))
	return home
}

// claudeSession is what Claude Code has done for one prompt.
type claudeSession struct{ model *model }

func (s claudeSession) tools() ([]string, error) { return s.model.toolsOf("it"), nil }
func (s claudeSession) call() (string, error)    { return s.model.answered(), nil }

// openClaude asks for the server's health, and then has the model call the tool.
func (s *stage) openClaude(t *testing.T, at place) (session, error) {
	t.Helper()
	home, m := claudeHome(t, at.url), newModel(t, "mcp__it__"+at.tool, harness.Map{"message": "hi"})
	health, err := output(s.claude(t, home, m, at.token, "mcp", "list"))
	if err != nil {
		return nil, err
	}
	if !strings.Contains(health, connected) {
		return nil, fmt.Errorf("it is not connected: %s", health)
	}
	_, err = output(s.claude(t, home, m, at.token, "-p", "Say hi.", "--allowedTools", m.tool))
	return claudeSession{m}, err
}

// connected is how Claude Code calls a server that it has connected to.
const connected = "✔ Connected"
