package mcpclient

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Connected is how Claude Code calls a server that it has connected to.
const Connected = "✔ Connected"

// Release is a release of Claude Code.
type Release struct {
	// Folder is where npm has installed it, below node_modules.
	Folder string
	// Program is the script there that starts it.
	Program string
	// Connected is how it calls a server that it has connected to.
	Connected string
}

// Claude is the release that most people have, and ClaudeBefore one from half a year
// earlier.
var (
	Claude       = Release{filepath.Join("@anthropic-ai", "claude-code"), "cli-wrapper.cjs", Connected}
	ClaudeBefore = Release{"claude-code-2.1.80", "cli.js", "✓ Connected"}
)

// Claude is Claude Code with its own home, and a scripted model in place of Anthropic's.
// Its package starts the program for the machine. No install script of the package is
// needed.
func (k *Kit) Claude(t *testing.T, release Release, home string, m *Model, token string, args ...string) *exec.Cmd {
	t.Helper()
	script := k.Modules.Path(release.Folder, release.Program)
	cmd := k.Command(t, k.Modules.Node, append([]string{script}, args...)...)
	cmd.Dir = home
	cmd.Env = append(k.Environment(home),
		"MCP_TOKEN="+token, "ANTHROPIC_BASE_URL="+m.URL, "ANTHROPIC_API_KEY=none",
		// Otherwise it would connect in the background, and let the model search for
		// tools.
		"MCP_CONNECTION_NONBLOCKING=false", "ENABLE_TOOL_SEARCH=false",
		// Otherwise that is a folder of /tmp named by the user's number: root's is root's
		// alone, and who is root in a namespace of their own may not use it.
		"CLAUDE_CODE_TMPDIR="+home,
	)
	return cmd
}

// ClaudeHome is a home in which the user has added one server, called it.
func ClaudeHome(t *testing.T, url string) string {
	t.Helper()
	home := t.TempDir()
	config, err := json.Marshal(map[string]any{"mcpServers": map[string]any{"it": map[string]any{
		"type": "http", "url": url, "headers": map[string]string{"Authorization": "Bearer ${MCP_TOKEN}"},
	}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, ".claude.json"), config, 0o600))
	return home
}

// claudeSession is Claude Code's work on one prompt.
type claudeSession struct{ model *Model }

func (s claudeSession) Tools() ([]string, error) { return s.model.ToolsOf("it"), nil }
func (s claudeSession) Call() (string, error)    { return s.model.Answered(), nil }

// OpenClaude asks for the server's health, and then lets the model call the tool.
func (k *Kit) OpenClaude(t *testing.T, release Release, at Place) (Session, error) {
	t.Helper()
	home, m := ClaudeHome(t, at.URL), NewModel(t, Step{Tool: "mcp__it__" + at.Tool, Arguments: hi()})
	health, err := Output(k.Claude(t, release, home, m, at.Token, "mcp", "list"))
	if err != nil {
		return nil, err
	}
	if !strings.Contains(health, release.Connected) {
		return nil, fmt.Errorf("it is not connected: %s", health)
	}
	_, err = Output(k.Claude(t, release, home, m, at.Token, "-p", "Say hi.", "--allowedTools", m.Tools()))
	return claudeSession{m}, err
}
