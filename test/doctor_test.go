package test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// doctor runs mcp-bootstrap doctor and returns what it printed and its status.
func (s *stage) doctor(t *testing.T, env ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.Programs.Bootstrap, "doctor")
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "VAULT_ADDR=" + s.Vault.Address(),
		"VAULT_TOKEN=" + s.Vault.RootToken, "MCP_GATEWAY_URL=" + s.gateway.URL,
	}, env...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func TestTheDoctorFindsNothingWrongWhereNothingIs(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.client("cursor", harness.Map{"token_ttl": "720h"})
	out, status := s.doctor(t)
	require.Zero(t, status, out)
	require.Contains(t, out, "Nothing is wrong.")
	require.NotContains(t, out, s.Vault.RootToken)
}

func TestTheDoctorSaysOfEachFindingWhatToDo(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.client("expiring", harness.Map{"token_ttl": "1h"})
	s.client("lost", harness.Map{"allowed_servers": ""})
	s.client("blocked", harness.Map{"allowed_servers": "retired", "token_ttl": "720h"})
	s.Write("mcp/servers/retired", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	s.Write("mcp/policies/corp", harness.Map{"managed": true, "deniedMcpServers": `[{"serverName":"retired"}]`})
	s.Write("auth/approle/role/mcp-gateway", harness.Map{"token_no_default_policy": false})
	s.Write("sys/policies/acl/mcp-gateway", harness.Map{"policy": `path "mcp/*" { capabilities = ["read"] }`})
	out, status := s.doctor(t)
	require.Equal(t, 1, status, out)
	for _, want := range []string{
		"the token of the client expiring ends in", "vault write -f mcp/rotate-client/expiring",
		"the client lost may reach no server", "the client blocked reaches none of its servers", "deniedMcpServers",
		"the server retired does not answer", "carries Vault's default policy", "mcp-gateway is not the one of this version",
		"Findings: 6.",
	} {
		require.Contains(t, out, want)
	}
	for what, test := range map[string]struct{ env, want string }{
		"no Vault":                       {"VAULT_ADDR=http://127.0.0.1:1", "point VAULT_ADDR"},
		"a wrong token":                  {"VAULT_TOKEN=nonsense", "does not accept VAULT_TOKEN"},
		"no gateway":                     {"MCP_GATEWAY_URL=http://127.0.0.1:1", "no gateway answers"},
		"no gateway, but something else": {"MCP_GATEWAY_URL=" + s.Vault.Address(), "is no gateway"},
	} {
		started := time.Now()
		out, status := s.doctor(t, test.env)
		require.Equal(t, 1, status, what)
		require.Contains(t, out, test.want, what)
		require.Less(t, time.Since(started), 30*time.Second, what)
	}
}
