package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestDocsQuickstart runs the commands of docs/quickstart.md as written.
func TestDocsQuickstart(t *testing.T) { runDevPage(t, "quickstart.md") }

// runDevPage runs a page's commands in a folder where `mcp-bootstrap dev` has laid
// what the page speaks of, and compares their output with what the page says.
func runDevPage(t *testing.T, name string) {
	t.Helper()
	d := newDev(t)
	d.warm(t)
	dir := t.TempDir()
	require.NoError(t, os.Symlink(d.dir, filepath.Join(dir, ".dev")))
	require.NoError(t, os.Symlink(filepath.Dir(harness.FindPrograms(t).Bootstrap), filepath.Join(dir, "bin")))
	vaultBinary(t, filepath.Join(dir, "vault"))

	p := readPage(t, filepath.Join("..", "docs", name))
	var commands []command
	for _, b := range p.blocks {
		commands = append(commands, b...)
	}
	outputs := runCommands(t, dir, commands, []string{"PATH=" + filepath.Join(dir, "vault", "bin") + ":" + os.Getenv("PATH")})
	for i, c := range commands {
		want, got := normalize(c.output), normalize(outputs[i])
		if !matches(want, strings.ReplaceAll(got, d.dir, ".dev")) {
			t.Errorf("$ %s\nthe page says:\n%s\nit prints:\n%s", c.text, want, got)
		}
	}
}

func TestTheExampleOfTheBootstrapPageIsApplied(t *testing.T) {
	a := newApplying(t)
	page, err := os.ReadFile(filepath.Join("..", "docs", "bootstrap.md"))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(page), "```hcl\n")
	require.True(t, found)
	example, _, _ := strings.Cut(after, "```")
	a.file(t, "broker.hcl", example)
	a.file(t, "managed-settings.json", `{"deniedMcpServers": [{"serverName": "retired"}]}`)
	a.Secret(refToken)
	a.env = append(a.env, "GITHUB_TOKEN="+upstreamToken, "AGENT_CI_TOKEN="+refToken)
	noSecret(t, a.applied(t))
	require.Equal(t, true, a.Read("mcp/policies/corp")["managed"])
	require.Nil(t, a.Read("mcp/policies/managed-settings"), "a file that a block names was loaded on its own too")
	require.Equal(t, "agent-ci", a.Write("mcp/lookup", harness.Map{"token": refToken})["client"])
	require.Contains(t, a.applied(t), "Nothing to do")
}
