package gateway

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// usedTools returns the rows of the client as "server/tool", all of one of the days.
func usedTools(t *testing.T, h *harness.Harness, client string, days []string) []string {
	t.Helper()
	rows, _ := h.Read("mcp/usage/clients/" + client)["rows"].([]any)
	used := []string{}
	for _, row := range rows {
		fields := row.(map[string]any)
		used = append(used, fields["server"].(string)+"/"+fields["tool"].(string))
		require.Contains(t, days, fields["last_used"])
	}
	return used
}

// TestWhatIsUsedThroughAGatewayIsSeenInVault uses a server at both endpoints, and reads the
// usage that the gateway has reported at its end.
func TestWhatIsUsedThroughAGatewayIsSeenInVault(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	days := []string{time.Now().UTC().Format(time.DateOnly)}
	clients := map[stage.Endpoint]string{stage.Single: "editor", stage.Aggregate: "agent"}
	for at, name := range clients {
		s.At = at
		token := s.Client(name, nil)
		session := s.Connect(s.URL(stage.Calculator), token)
		_, err := session.ListTools(t.Context(), nil)
		require.NoError(t, err)
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: at.Tool(stage.Calculator, "add"), Arguments: map[string]any{"a": 1, "b": 2}})
		require.NoError(t, err)
		require.False(t, result.IsError)
	}
	s.At = stage.Single
	inventive := s.Client("inventive", nil)
	s.Call(s.URL(stage.Calculator), inventive, "no-such-tool", `{}`)
	s.Call(s.URL(stage.Forbidden), inventive, "add", `{"a":1,"b":2}`)
	s.Client("idle", nil)

	s.Gateway.Stop()
	days = append(days, time.Now().UTC().Format(time.DateOnly)) // midnight may have passed
	for _, name := range clients {
		require.Equal(t, []string{"calculator/add"}, usedTools(t, s.Harness, name, days))
		client := s.Read("mcp/clients/" + name)
		require.Contains(t, days, client["last_used"])
		require.Contains(t, days, s.Read("mcp/clients/" + name + "/tokens/" + client["accessor"].(string))["last_used"])
	}
	require.Equal(t, []string{"calculator/"}, usedTools(t, s.Harness, "inventive", days), "by a name that no list has, and by no refused call")
	require.Nil(t, s.Read("mcp/clients/idle")["last_used"])
	listed, err := s.Vault.Client().Logical().ListWithContext(t.Context(), "mcp/clients")
	require.NoError(t, err)
	info := listed.Data["key_info"].(map[string]any)
	require.Contains(t, days, info["editor"].(map[string]any)["last_used"])
	require.Nil(t, info["idle"].(map[string]any)["last_used"])

	coverage := s.Read("mcp/usage")["days"].([]any)
	today := coverage[len(coverage)-1].(map[string]any)
	require.Equal(t, false, today["complete"], "no day is before its end")
	require.EqualValues(t, "1", today["gateways"])
}

// TestAGatewayThatMayNotReportSaysSoAndWorks: its policy is that of an earlier set-up.
func TestAGatewayThatMayNotReportSaysSoAndWorks(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	const right = "path \"mcp/gateway/usage\" {\n  capabilities = [\"update\"]\n}\n"
	require.Contains(t, policies.Gateway, right)
	s.Write("sys/policies/acl/"+policies.GatewayName, harness.Map{"policy": strings.Replace(policies.Gateway, right, "", 1)})
	token := s.Client("cursor", nil)
	s.Works(t, token)
	s.Gateway.Stop()
	log, err := os.ReadFile(s.Gateway.Process.Log())
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(log), "grant the gateway's policy update on gateway/usage"))
	require.Nil(t, s.Read("mcp/clients/cursor")["last_used"])
}
