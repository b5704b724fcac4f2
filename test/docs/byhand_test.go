package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

// TestDocsByHand runs the commands of docs/by-hand.md in an unpacked package, against a
// Vault that knows nothing of the engine. Where everything stands, mcp-bootstrap doctor
// finds nothing wrong: the page leaves out nothing.
func TestDocsByHand(t *testing.T) {
	h := harness.New(t, harness.WithoutEngine())
	dir := filepath.Join(h.Dir, "package")
	out, err := exec.CommandContext(t.Context(), "../../scripts/package-files.sh", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	for name, path := range map[string]string{
		provision.PluginName: h.Programs.Plugin, "mcp-gateway": h.Programs.Gateway, "mcp-bootstrap": h.Programs.Bootstrap,
	} {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o700))
	}
	listen, admin := harness.FreeAddress(t), harness.FreeAddress(t)
	file, err := os.OpenFile(filepath.Join(dir, "gateway.hcl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString("admin {\n  address = " + strconv.Quote(admin) + "\n}\n") // the page's own may be in use
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(dir, "gateway.pid")); err == nil {
			if id, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil {
				_ = syscall.Kill(id, syscall.SIGKILL)
			}
		}
	})

	commands := docrun.Read(t, "by-hand.md").Commands()
	standing := -1
	for i, c := range commands {
		if strings.HasPrefix(c.Text, "vault write -f mcp/revoke-client/") {
			standing = i
		}
	}
	require.Positive(t, standing)
	doctor := docrun.Command{Text: "./mcp-bootstrap doctor", Output: "…\n\nNothing is wrong.\n"}
	commands = append(commands[:standing:standing], append([]docrun.Command{doctor}, commands[standing:]...)...)

	outputs := docrun.Run(t, dir, commands, append(harness.RaceEnv(),
		"PATH="+filepath.Dir(docrun.VaultBinary(t, t.TempDir()))+":"+os.Getenv("PATH"),
		"VAULT_ADDR="+h.Vault.Address(), "VAULT_TOKEN="+h.Vault.RootToken,
		"PLUGIN_DIRECTORY="+filepath.Join(h.Dir, "plugins"), "SERVER_URL="+h.StartUpstream(nil).URL,
		"MCP_GATEWAY_LISTEN="+listen, "MCP_GATEWAY_URL=http://"+listen, "MCP_GATEWAY_ADMIN_URL=http://"+admin))
	docrun.WantOutputs(t, commands, outputs)
	require.Nil(t, h.Read("auth/approle/role/mcp-gateway"))
}
