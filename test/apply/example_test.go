package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

func TestTheExampleOfTheBootstrapPageIsApplied(t *testing.T) {
	a := newApplying(t)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "bootstrap.md"))
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
