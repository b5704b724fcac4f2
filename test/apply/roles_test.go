package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestApplyWritesRolesBeforeTheirClientsAndPrunesThemAfter takes a role through its life, and a
// server that somebody has stopped by hand.
func TestApplyWritesRolesBeforeTheirClientsAndPrunesThemAfter(t *testing.T) {
	a := newApplying(t)
	server := `server "github" {
  transport = "http"
  url       = "https://example.com/mcp"
}
`
	require.NoError(t, os.Mkdir(filepath.Join(a.dir, "roles"), 0o700))
	a.file(t, "broker.hcl", server+`client "ann" { role = "engineer" }`)
	a.file(t, "roles/engineer.json", `{"allowed_servers": ["github"], "denied_tools": ["github/delete_*"]}`)

	plan := a.applied(t, "-dry-run")
	require.Less(t, strings.Index(plan, "client-role engineer"), strings.Index(plan, "client ann"), plan)
	require.NotContains(t, plan, "there is no role")
	noSecret(t, a.applied(t))
	require.Equal(t, []any{"github"}, a.Read("mcp/roles/engineer")["allowed_servers"])
	require.Equal(t, "engineer", a.Read("mcp/clients/ann")["role"])
	require.Contains(t, a.applied(t), "Nothing to do")

	a.file(t, "roles/engineer.json", `{"allowed_servers": ["github"]}`)
	require.Contains(t, a.applied(t), `denied_tools = [] (was ["github/delete_*"])`)
	require.Equal(t, []any{}, a.Read("mcp/roles/engineer")["denied_tools"])

	a.Write("mcp/servers/github", map[string]any{"disabled": true})
	require.Contains(t, a.applied(t), "Nothing to do", "what somebody has stopped stays so")

	require.NoError(t, os.Remove(filepath.Join(a.dir, "roles", "engineer.json")))
	a.file(t, "broker.hcl", server)
	require.Contains(t, a.applied(t), "no file names the client-role engineer any more: -prune deletes it")
	pruned := a.applied(t, "-prune")
	require.Less(t, strings.Index(pruned, "delete client ann"), strings.Index(pruned, "delete client-role engineer"), pruned)
	require.Nil(t, a.Read("mcp/roles/engineer"))
}
