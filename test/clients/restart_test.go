package clients

import (
	"fmt"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestAServerIsRestartedBehindItsClients: server-everything answers 400 to the
// sessions of its former run. Clients of /mcp go on in the sessions that they have,
// or in none.
func TestAServerIsRestartedBehindItsClients(t *testing.T) {
	s := newStage(t)
	address := harness.FreeAddress(t)
	server := s.startEverythingAt(t, address, "streamableHttp")
	s.Write("mcp/servers/everything", harness.Map{"transport": "http", "url": "http://" + address + "/mcp"})
	token := s.CreateClient("editor", harness.Map{"allowed_servers": "everything"})
	s.introduce(t, token, "everything")
	sessions := map[string]*mcp.ClientSession{}
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		opened, err := s.In(t).TryConnect(s.gateway.URL+"/mcp", token, harness.ConnectOptions{Version: era})
		require.NoError(t, err)
		sessions[era] = opened
	}
	for restarts := range 3 {
		for era, session := range sessions {
			name := fmt.Sprintf("%s after %d restarts", era, restarts)
			if restarts != 1 { // a list finds the old session, and then a call does
				list, err := session.ListTools(t.Context(), nil)
				require.NoError(t, err, name)
				require.NotEmpty(t, list.Tools, name)
			}
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{
				Name: "everything__echo", Arguments: harness.Map{"message": "hi"},
			})
			require.NoError(t, err, name)
			require.Len(t, result.Content, 1, name)
			require.Equal(t, "Echo: hi", result.Content[0].(*mcp.TextContent).Text, name)
		}
		server.Stop(5 * time.Second)
		server = s.startEverythingAt(t, address, "streamableHttp")
	}
}
