package commands

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// exported runs mcp-bootstrap export and returns what it prints for the file.
func exported(t *testing.T, h *harness.Harness, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.Programs.Bootstrap, append([]string{"export"}, args...)...)
	cmd.Env = []string{
		"GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "HOME=" + h.Dir, "VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + h.Vault.RootToken,
		"MCP_GATEWAY_URL=https://mcp.example.com",
	}
	out, err := cmd.Output()
	require.NoError(t, err)
	return string(out)
}

func TestAnExportedConfigurationHasExactlyTheServersThatTheClientMayReach(t *testing.T) {
	h := harness.New(t)
	for _, name := range []string{"calculator", "github", "retired", "other"} {
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": "https://" + name + ".example.com/mcp"})
	}
	token := h.CreateClient("editor", harness.Map{"allowed_servers": "calculator,github,retired"})
	h.Write("mcp/policies/corp", harness.Map{"managed": true, "deniedMcpServers": `[{"serverName":"retired"}]`})

	text := exported(t, h, "-client=editor", "-format=claude-code", "-per-server")
	require.NotContains(t, text, token)
	var config struct {
		Servers map[string]struct{ URL string } `json:"mcpServers"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &config))
	require.Len(t, config.Servers, 2)
	require.Equal(t, "https://mcp.example.com/servers/calculator/mcp", config.Servers["calculator"].URL)
	require.Equal(t, "https://mcp.example.com/servers/github/mcp", config.Servers["github"].URL)

	config.Servers = nil
	require.NoError(t, json.Unmarshal([]byte(exported(t, h, "-client=editor", "-format=claude-code")), &config))
	require.Len(t, config.Servers, 1)
	require.Equal(t, "https://mcp.example.com/mcp", config.Servers["mcp"].URL)
}

func TestExportedManagedSettingsAllowTheGatewayAndNothingElse(t *testing.T) {
	h := harness.New(t)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	h.CreateClient("editor", harness.Map{"allowed_servers": "*"})
	var settings harness.Map
	require.NoError(t, json.Unmarshal([]byte(exported(t, h, "-client=editor", "-format=managed-settings")), &settings))
	settings["managed"] = true
	h.Write("mcp/policies/desktops", settings)
	for url, allowed := range map[string]bool{
		"https://mcp.example.com/mcp":                true,
		"https://mcp.example.com/mcp?x=1":            true,
		"https://mcp.example.com/servers/github/mcp": false,
		"http://mcp.example.com/mcp":                 false,
		"https://mcp.example.com.evil.example/mcp":   false,
	} {
		answer := h.Write("mcp/evaluate", harness.Map{"policies": "desktops", "server_name": "any", "url": url})
		require.Equal(t, allowed, answer["allowed"], "%s: %v", url, answer["reason"])
	}
	answer := h.Write("mcp/evaluate", harness.Map{"policies": "desktops", "server_name": "mcp", "command": "npx"})
	require.Equal(t, false, answer["allowed"], answer["reason"])
}
