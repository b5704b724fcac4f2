package dev

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// sseCalculator is the demo calculator over the transport of the first revision.
func sseCalculator(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return demo.Calculator() }, nil))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL + "/"
}

// TestDevRunsServersOfOnesOwnAndAVaultAgent starts dev with servers of all three
// transports in the file of an MCP client, and runs what it prints.
func TestDevRunsServersOfOnesOwnAndAVaultAgent(t *testing.T) {
	programs := harness.FindPrograms(t)
	upstream := httptest.NewServer(demo.Handler(demo.Calculator()))
	t.Cleanup(upstream.Close)
	servers, err := json.Marshal(harness.Map{"mcpServers": harness.Map{
		"own http":  harness.Map{"type": "http", "url": upstream.URL + demo.Path, "headers": harness.Map{"Authorization": "Bearer ${OWN_CREDENTIAL}"}, "alwaysAllow": []string{"add"}},
		"own-sse":   harness.Map{"type": "sse", "url": sseCalculator(t)},
		"own-stdio": harness.Map{"command": programs.Bootstrap, "args": []string{"demo", "notes"}, "env": harness.Map{"A": "b"}},
	}})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), ".mcp.json")
	require.NoError(t, os.WriteFile(file, servers, 0o600))
	const credential = "credential-of-a-server-of-ones-own"
	t.Setenv("OWN_CREDENTIAL", credential)

	d := startDev(t, filepath.Join(t.TempDir(), "it's a dev"), freeAddresses(t), "-servers="+file, "-agent")
	d.awaitReady(t)
	output := d.output(t)
	require.NotContains(t, output, credential)
	require.Contains(t, output, `server "own http": it becomes "own-http"`)
	require.Contains(t, output, `"alwaysAllow" is not taken`)
	_, config, _ := strings.Cut(output, "shown this once:\n")
	config, _, _ = strings.Cut(config, "\n\nNote:")
	var client struct {
		Servers map[string]struct{ URL string } `json:"mcpServers"`
	}
	require.NoError(t, json.Unmarshal([]byte(config), &client), config)
	require.Len(t, client.Servers, 1)
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/mcp$`, client.Servers["mcp"].URL)

	statuses, out := d.runPrinted(t)
	// Its own server's two calls, three of one's own, the Agent's, and one that is refused.
	require.Equal(t, "200 403 200 200 200 200 401", statuses, out)
	require.Contains(t, out, `{"Authorization": "Bearer mcpt_`)
	token, err := os.ReadFile(filepath.Join(d.dir, "agent", "token"))
	require.NoError(t, err)
	require.NotContains(t, d.output(t), string(token))
	d.interrupt(t)
	d.assertNothingLeft(t)
	require.NoDirExists(t, filepath.Join(d.dir, "agent"), "the Agent's login and token are left behind")
}

// TestDevGoesOnWithoutTheVaultThatLed runs what dev prints with three Vaults, the
// killing of one included, and waits until that one is back.
func TestDevGoesOnWithoutTheVaultThatLed(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "dev"), freeAddresses(t), "-ha")
	d.awaitReady(t)
	statuses, out := d.runPrinted(t)
	require.Equal(t, "200 403 200 401", statuses, out)
	d.awaitOutput(t, "has ended; it is started again in 5s")
	d.awaitOutput(t, " is back")

	// Another Vault leads than at first. It answers requests to the printed address; they
	// are not redirected to an address that does not answer.
	root, _ := d.tokens(t)
	vault := d.vault(t, root)
	var failed error
	require.Eventually(t, func() bool {
		failed = vault.Sys().RaftSnapshotWithContext(t.Context(), io.Discard)
		return failed == nil
	}, time.Minute, 200*time.Millisecond, "no snapshot at the printed address")
	require.NoError(t, failed)
	d.interrupt(t)
	d.assertNothingLeft(t)
	require.NoDirExists(t, filepath.Join(d.dir, "vault-1"), "what a Vault has stored is left behind")
}

// TestDevGoesOnWhereItStopped keeps Vault's storage over a restart, so that the token
// in a client's configuration stays valid.
func TestDevGoesOnWhereItStopped(t *testing.T) {
	first := startDev(t, filepath.Join(t.TempDir(), "it's a dev"), freeAddresses(t), "-keep")
	first.awaitReady(t)
	root, token := first.tokens(t)
	vault := first.vault(t, root)
	for _, name := range []string{"mcp-admin", "mcp-client", "mcp-gateway"} {
		rules, err := vault.Sys().GetPolicy(name)
		require.NoError(t, err)
		require.NotEmpty(t, rules, name)
	}
	config, err := vault.Logical().Read("mcp/config")
	require.NoError(t, err)
	require.EqualValues(t, "2592000", config.Data["default_ttl"])
	_, err = vault.Logical().Write("mcp/clients/of-mine", harness.Map{"allowed_servers": stage.Calculator, "metadata": "a=b"})
	require.NoError(t, err)
	first.interrupt(t)
	first.assertNothingLeft(t)
	info, err := os.Stat(filepath.Join(first.dir, "kept.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	second := startDev(t, first.dir, first.addresses, "-keep")
	second.awaitReady(t)
	require.Contains(t, second.output(t), "is still that of the last run:")
	rootAgain, tokenAgain := second.tokens(t)
	require.Equal(t, []string{root, token}, []string{rootAgain, tokenAgain})
	client, err := second.vault(t, root).Logical().Read("mcp/clients/of-mine")
	require.NoError(t, err)
	require.NotNil(t, client, "a client of the first run is gone")
	statuses, out := second.runPrinted(t) // the last of it revokes the token
	require.Equal(t, "200 403 401", statuses, out)
	second.interrupt(t)

	third := startDev(t, first.dir, first.addresses, "-keep")
	third.awaitReady(t)
	require.Contains(t, third.output(t), "is shown this once:")
	_, renewed := third.tokens(t)
	require.NotEqual(t, token, renewed)
	third.interrupt(t)

	plain := startDev(t, first.dir, first.addresses)
	plain.awaitReady(t)
	require.Contains(t, plain.output(t), "the storage of an earlier run with -keep is left alone")
	plain.interrupt(t)
	require.FileExists(t, filepath.Join(first.dir, "kept.json"))
}

// vault is a client for dev's Vault.
func (d *devSystem) vault(t *testing.T, token string) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	require.NoError(t, config.Error)
	config.Address = "http://" + d.addresses[0]
	client, err := api.NewClient(config)
	require.NoError(t, err)
	client.SetToken(token)
	return client
}
