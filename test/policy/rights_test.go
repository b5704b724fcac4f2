package policy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestRulesBeyondToolsAdmitNothingToAnOldGateway: the lookup of a client that has one answers
// with lists that admit nothing, and a gateway of this version reads the full rules. Its
// decisions then are those of evaluate.
func TestRulesBeyondToolsAdmitNothingToAnOldGateway(t *testing.T) {
	h := harness.New(t)
	upstream := h.StartUpstream(nil)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": upstream.URL})
	url := h.StartGateway(harness.GatewayOptions{}).ServerURL("calculator")
	for name, more := range map[string]harness.Map{
		"plain":     {},
		"prompts":   {"allowed_prompts": "calculator/*"},
		"resources": {"denied_resources": "*/*secret*"},
		"limited":   {"rate_limit": 1000},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			fields := harness.Map{"allowed_servers": "calculator", "allowed_tools": "calculator/add,*/div*", "denied_tools": "*/*vide"}
			for field, value := range more {
				fields[field] = value
			}
			token := h.CreateClient(name, fields)
			old := h.Write("mcp/lookup", harness.Map{"token": token})
			if name == "plain" {
				require.Equal(t, []any{"calculator"}, old["allowed_servers"])
				require.Nil(t, old["rights"])
			} else {
				require.Equal(t, []any{}, old["allowed_servers"], "what a gateway of an earlier version reads")
				require.Equal(t, []any{}, old["allowed_tools"])
				require.Len(t, old["rights"], 1)
			}
			for _, tool := range []string{"add", "divide", "subtract"} {
				decided := h.Write("mcp/evaluate", harness.Map{"client": name, "server": "calculator", "tool": tool})
				require.Equal(t, tool == "add", decided["allowed"], "%v", decided["reason"])
				passed := strings.Contains(h.Call(url, token, tool, `{"a":6,"b":2}`).Body, `"result"`)
				require.Equal(t, decided["allowed"], passed, "%s at the gateway", tool)
			}
		})
	}
	secret := h.Write("mcp/evaluate", harness.Map{"client": "resources", "server": "calculator", "resource": "file:///srv/%53ecret?"})
	require.Equal(t, "resource-not-allowed", secret["decision"])
	require.Equal(t, "*/*secret*", secret["entry"])
}
