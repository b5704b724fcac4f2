package clients

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
	teststage "vault-plugin-secrets-mcp/test/stage"
)

// TestClaudeCodeOutlivesALeasedToken: the token with which a session began ends between two
// calls of the session. Vault Agent has put the next one into its file, the headersHelper reads
// it, and neither the model nor the person notices.
func TestClaudeCodeOutlivesALeasedToken(t *testing.T) {
	t.Parallel()
	x := newExports(t)
	helper, err := filepath.Abs(filepath.Join(teststage.AgentFiles, "mcp-headers.sh"))
	require.NoError(t, err)
	for name, endpoint := range map[string]struct{ client, url, tool string }{
		"at the endpoint of all servers": {"leased-for-all", x.gateway.URL + "/mcp", "mcp__it__ledger__add"},
		"at a server's own endpoint":     {"leased-for-one", x.gateway.ServerURL("ledger"), "mcp__it__add"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := x.stage.in(t)
			x.Write("mcp/clients/"+endpoint.client, harness.Map{"allowed_servers": "ledger", "token_ttl": "4s", "token_max_ttl": "6s"})
			agent := teststage.StartAgent(t, x.Harness, "token-file.hcl", endpoint.client, "")
			used := agent.Await(t, x.Harness, "token")
			x.Secret(used)
			x.introduce(t, used, "ledger")

			// The next token is in the file, and the one of the last call has ended.
			next := func() {
				x.Eventually("the token of the last call ends", func() error {
					if x.Write("mcp/lookup", harness.Map{"token": used})["active"] == true {
						return errors.New("it is active")
					}
					return nil
				})
				x.Eventually("the Agent has written the next one", func() error {
					now := agent.Await(t, x.Harness, "token")
					if now == used {
						return errors.New("the file has the old one still")
					}
					used = now
					x.Secret(used)
					return nil
				})
			}
			add := mcpclient.Step{Tool: endpoint.tool, Arguments: harness.Map{"a": 40, "b": 2}}
			later := add
			later.Before = next
			model := mcpclient.NewModel(t, add, later, later)
			home := t.TempDir()
			config, err := json.Marshal(harness.Map{"mcpServers": harness.Map{"it": harness.Map{
				"type": "http", "url": endpoint.url, "headersHelper": helper + " " + agent.Path("token"),
			}}})
			require.NoError(t, err)
			write(t, string(config), home, ".claude.json")
			_, err = mcpclient.Output(x.Claude(t, mcpclient.Claude, home, model, "", "-p", "Add.", "--allowedTools", endpoint.tool))
			require.NoError(t, err)
			require.Len(t, model.Answers(), 3)
			for _, answer := range model.Answers() {
				require.Contains(t, answer, "42")
			}
		})
	}
}
