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
	orders := a.Read("mcp/servers/orders")
	require.Equal(t, "database/creds/orders-ro", orders["credentials"].(harness.Map)["db"].(harness.Map)["path"])
	require.Equal(t, []any{"mcp-orders"}, orders["vault_policies"])
	require.Contains(t, a.applied(t), "Nothing to do")

	_, after, found = strings.Cut(string(page), "which MCPJungle does not know:\n\n```json\n")
	require.True(t, found)
	example, _, _ = strings.Cut(after, "```")
	b := newApplying(t)
	b.file(t, "orders.json", example)
	noSecret(t, b.applied(t))
	require.Equal(t, harness.Map{
		"db":  harness.Map{"path": "database/creds/orders-ro", "method": "read", "refresh": nil, "data": []any{}},
		"otp": harness.Map{"path": "ssh/creds/otp", "method": "write", "refresh": nil, "data": []any{"ip"}},
	}, b.Read("mcp/servers/orders")["credentials"])
	require.Contains(t, b.applied(t), "Nothing to do")
}

// The values of files and of a credential's data are never shown, and a change of them is
// written all the same.
func TestAChangeOfWhatIsNeverShownIsPlannedAndWritten(t *testing.T) {
	a := newApplying(t)
	server := func(path, ip, file string) {
		a.file(t, "ssh.hcl", `server "ssh" {
  transport   = "stdio"
  command     = "/usr/local/bin/ssh-mcp"
  credentials = { otp = { path = "`+path+`", method = "write", data = { ip = "`+ip+`" } } }
  env         = { KEY = "{{otp.key}}" }
  files       = { motd = "`+file+`" }
}`)
	}
	registered := func() harness.Map {
		return a.Read("mcp/gateway/servers")["credential_servers"].(harness.Map)["ssh"].(harness.Map)
	}
	const ip1, ip2, content1, content2 = "data-that-is-hidden-1", "data-that-is-hidden-2", "content-that-is-hidden-1", "content-that-is-hidden-2"
	for _, secret := range []string{ip1, ip2, content1, content2} {
		a.Secret(secret)
	}
	server("ssh/creds/otp", ip1, content1)
	require.Contains(t, a.applied(t), `+ credentials = {"otp":{"data":["ip"],"method":"write","path":"ssh/creds/otp","refresh":null}}`)
	require.Contains(t, a.applied(t), "Nothing to do")

	const hidden = "~ values of headers, env, files, the URL's query or the data of credentials (they are never shown)"
	server("ssh/creds/otp", ip2, content1)
	require.Contains(t, a.applied(t), hidden)
	require.Equal(t, ip2, registered()["credentials"].(harness.Map)["otp"].(harness.Map)["data"].(harness.Map)["ip"])
	server("ssh/creds/otp", ip2, content2)
	require.Contains(t, a.applied(t), hidden)
	require.Equal(t, content2, registered()["files"].(harness.Map)["motd"])
	server("ssh/creds/other", ip2, content2)
	output := a.applied(t)
	require.Contains(t, output, "ssh/creds/other")
	require.NotContains(t, output, "that-is-hidden")
	require.Contains(t, a.applied(t), "Nothing to do")
}
