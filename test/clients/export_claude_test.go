package clients

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
)

// claudeLists is the health that `claude mcp list` reports, by server.
func (x exports) claudeLists(t *testing.T, cmd *exec.Cmd) map[string]string {
	t.Helper()
	text, err := mcpclient.Output(cmd)
	require.NoError(t, err)
	servers := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^([\w-]+): \S+ .*?- (.*)$`).FindAllStringSubmatch(text, -1) {
		servers[line[1]] = line[2]
	}
	require.NotEmpty(t, servers, text)
	return servers
}

func TestClaudeCodeReadsWhatIsExported(t *testing.T) {
	x := newExports(t)
	t.Run("a project's file connects to its servers", func(t *testing.T) {
		x := x.in(t)
		home := t.TempDir()
		write(t, x.exportEach(t, "claude-code"), home, "project", ".mcp.json")
		project := filepath.Join(home, "project")
		trust, err := json.Marshal(harness.Map{"projects": harness.Map{project: harness.Map{
			"hasTrustDialogAccepted": true, "enabledMcpjsonServers": []string{"calculator", "ledger"},
		}}})
		require.NoError(t, err)
		write(t, string(trust), home, ".claude.json")
		m := mcpclient.NewModel(t, mcpclient.Step{Tool: "mcp__calculator__add", Arguments: harness.Map{"a": 40, "b": 2}})
		for _, args := range [][]string{{"mcp", "list"}, {"-p", "Add.", "--allowedTools", m.Tools()}} {
			cmd := x.Claude(t, mcpclient.Claude, home, m, x.token, args...)
			cmd.Dir = project
			if args[0] == "mcp" {
				require.Equal(t, all(mcpclient.Connected), x.claudeLists(t, cmd))
				continue
			}
			_, err := mcpclient.Output(cmd)
			require.NoError(t, err)
			require.Contains(t, m.Answered(), "42")
		}
	})
	t.Run("the page's own command adds the gateway", func(t *testing.T) {
		x := x.in(t)
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", "clients.md"))
		require.NoError(t, err)
		line := regexp.MustCompile(`(?m)^claude (mcp add .*)$`).FindSubmatch(page)
		require.NotNil(t, line)
		words, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\n' `+strings.ReplaceAll(string(line[1]), "https://mcp.example.com", x.gateway.URL)).Output()
		require.NoError(t, err)
		home, m := t.TempDir(), mcpclient.NewModel(t)
		_, err = mcpclient.Output(x.Claude(t, mcpclient.Claude, home, m, x.token, strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")...))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"mcp": mcpclient.Connected}, x.claudeLists(t, x.Claude(t, mcpclient.Claude, home, m, x.token, "mcp", "list")))
		kept, err := os.ReadFile(filepath.Join(home, ".claude.json"))
		require.NoError(t, err)
		require.NotContains(t, string(kept), x.token)
	})
	t.Run("managed-mcp.json is these servers and no other", func(t *testing.T) {
		x := x.in(t)
		home, m := mcpclient.ClaudeHome(t, x.gateway.ServerURL("off")), mcpclient.NewModel(t)
		for name, files := range map[string]map[string]string{
			"alone": {
				"claude-code/managed-mcp.json": x.exportEach(t, "managed-mcp"),
			},
			"with managed settings": {
				"claude-code/managed-mcp.json":      x.exportEach(t, "managed-mcp"),
				"claude-code/managed-settings.json": x.exportEach(t, "managed-settings"),
			},
		} {
			t.Run(name, func(t *testing.T) {
				require.Equal(t, all(mcpclient.Connected), x.claudeLists(t, withEtc(t, x.Claude(t, mcpclient.Claude, home, m, x.token, "mcp", "list"), files)))
				_, err := mcpclient.Output(withEtc(t, x.Claude(t, mcpclient.Claude, home, m, x.token,
					"mcp", "add", "--scope", "user", "--transport", "http", "more", x.gateway.ServerURL("calculator")), files))
				require.ErrorContains(t, err, "has exclusive control over MCP servers")
			})
		}
	})
	t.Run("managed settings let the gateway in and nothing else", func(t *testing.T) {
		x := x.in(t)
		home, m := mcpclient.ClaudeHome(t, x.gateway.ServerURL("off")), mcpclient.NewModel(t)
		files := map[string]string{"claude-code/managed-settings.json": x.exportEach(t, "managed-settings")}
		run := func(args ...string) (string, error) {
			return mcpclient.Output(withEtc(t, x.Claude(t, mcpclient.Claude, home, m, x.token, args...), files))
		}
		add := []string{"mcp", "add", "--scope", "user", "--transport", "http", "--header", "Authorization: Bearer ${MCP_TOKEN}"}
		_, err := run(append(add, "--", "off", x.gateway.ServerURL("off"))...)
		require.ErrorContains(t, err, "not allowed by enterprise policy")
		_, err = run("mcp", "add", "--scope", "user", "child", "--", "node", "server.js")
		require.ErrorContains(t, err, "not allowed by enterprise policy")
		for _, name := range []string{"calculator", "ledger"} {
			_, err = run(append(add, "--", name, x.gateway.ServerURL(name))...)
			require.NoError(t, err)
		}
		// The server that the user had before is gone.
		require.Equal(t, all(mcpclient.Connected), x.claudeLists(t, withEtc(t, x.Claude(t, mcpclient.Claude, home, m, x.token, "mcp", "list"), files)))
	})
	t.Run("the headersHelper is asked for each connection", func(t *testing.T) {
		x := x.in(t)
		helper, err := filepath.Abs(filepath.Join("..", "..", "bootstrap", "agent", "mcp-headers.sh"))
		require.NoError(t, err)
		home, m := t.TempDir(), mcpclient.NewModel(t, mcpclient.Step{Tool: "mcp__ledger__add", Arguments: harness.Map{"a": 40, "b": 2}})
		token := write(t, x.token+"\n", t.TempDir(), "token")
		files := map[string]string{"claude-code/managed-mcp.json": x.exportEach(t, "managed-mcp", "-token-file="+token, "-helper="+helper)}
		claude := func(args ...string) *exec.Cmd {
			return withEtc(t, x.Claude(t, mcpclient.Claude, home, m, "", args...), files)
		}
		require.Equal(t, all(mcpclient.Connected), x.claudeLists(t, claude("mcp", "list")))

		another := x.Token(x.Write("mcp/rotate-client/"+x.client, harness.Map{"grace_period": 0}))
		require.NotEqual(t, all(mcpclient.Connected), x.claudeLists(t, claude("mcp", "list")), "the file has the old token still")
		write(t, "", token)
		for _, status := range x.claudeLists(t, claude("mcp", "list")) {
			require.Contains(t, status, noSignIn)
		}
		write(t, another, token)
		_, err = mcpclient.Output(claude("-p", "Add.", "--allowedTools", m.Tools()))
		require.NoError(t, err)
		require.Contains(t, m.Answered(), "42")
	})
	t.Run("one entry for all servers has the tools of each", func(t *testing.T) {
		x := x.in(t)
		home, m := t.TempDir(), mcpclient.NewModel(t, mcpclient.Step{Tool: "mcp__mcp__ledger__add", Arguments: harness.Map{"a": 40, "b": 2}})
		files := map[string]string{"claude-code/managed-mcp.json": x.export(t, "managed-mcp")}
		claude := func(args ...string) *exec.Cmd {
			return withEtc(t, x.Claude(t, mcpclient.Claude, home, m, x.token, args...), files)
		}
		require.Equal(t, map[string]string{"mcp": mcpclient.Connected}, x.claudeLists(t, claude("mcp", "list")))
		_, err := mcpclient.Output(claude("-p", "Add.", "--allowedTools", m.Tools()))
		require.NoError(t, err)
		require.Contains(t, m.Answered(), "42")
		require.Subset(t, m.ToolsOf("mcp"), []string{"calculator__add", "ledger__add"})
		require.Len(t, m.ToolsOf("mcp"), 8, "four of each")
	})
	require.Zero(t, x.off.Count())
}
