package dev

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

const (
	leases = "sys/leases/lookup/demo-pki/issue/client"
	caller = `"structuredContent":{"account":"account-of-cursor-local","expires":"[^"]*","name":"urn:mcp-demo:mcp:cursor-local","serial":"([0-9a-f]+)"}`
)

// TestDevShowsCredentialsThatEndWithTheirClient runs what dev prints with -upstream, the
// revocation of the client included, looks for what is left of its credentials, and runs
// the section of docs/quickstart.md.
func TestDevShowsCredentialsThatEndWithTheirClient(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "it's a dev"), freeAddresses(t), "-upstream")
	d.awaitReady(t)
	root, token := d.tokens(t)
	vault := d.vault(t, root)
	assertClientsAreApart(t, vault)
	d.isFoundWell(t, root, token)

	statuses, out := d.runPrinted(t)
	require.Equal(t, "200 403 200 200 401", statuses, out)
	called := regexp.MustCompile(caller).FindAllStringSubmatch(out, -1)
	require.Len(t, called, 2, out)
	require.NotEqual(t, called[0][1], called[1][1], "two servers have one certificate")
	leased := map[string]bool{}
	for _, id := range regexp.MustCompile(`(?m)^[0-9A-Za-z]{24}$`).FindAllString(out, -1) {
		leased[id] = true
	}
	require.Len(t, leased, 2, out)

	require.Empty(t, keys(t, vault, leases), "leases are left")
	revoked := strings.ReplaceAll(strings.Join(keys(t, vault, "demo-pki/certs/revoked"), " "), ":", "")
	for _, call := range called {
		require.Contains(t, revoked, call[1], "a certificate is not revoked")
	}
	for _, accessor := range keys(t, vault, "auth/token/accessors") {
		of, err := vault.Logical().Write("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err == nil { // else it has ended meanwhile
			require.NotContains(t, of.Data["path"], provision.UpstreamRole, "a child token is left")
		}
	}
	for line, pid := range d.children(t) {
		if strings.Contains(line, "mcp-gateway") {
			require.NotContains(t, strings.Join(slices.Collect(maps.Keys(childrenOf(t, pid))), "\n"), "whoami", "the server's process is left")
		}
	}

	section, _ := docrun.Read(t, "quickstart.md").Section(leasedSection)
	d.runCommands(t, section)

	secret, err := vault.Logical().Read("demo-kv/data/mcp:cursor-local")
	require.NoError(t, err)
	key, _ := secret.Data["data"].(harness.Map)["key"].(string)
	require.NotEmpty(t, key)
	d.interrupt(t)
	d.assertNothingLeft(t)
	require.NotContains(t, d.output(t), key)
	logs, err := filepath.Glob(filepath.Join(d.dir, "logs", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, path := range logs {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, value := range []string{key, "BEGIN CERTIFICATE", "PRIVATE KEY"} {
			require.NotContains(t, string(content), value, path)
		}
	}
}

// isFoundWell has the doctor compare the gateway's file with Vault, try the credentials of the
// client, and call each server.
func (d *devSystem) isFoundWell(t *testing.T, root, token string) {
	t.Helper()
	d.warm(t)
	doctor := exec.CommandContext(t.Context(), harness.FindPrograms(t).Bootstrap,
		"doctor", "-client=cursor-local", "-gateway-config="+filepath.Join(d.dir, "gateway.hcl"), "-try-token")
	doctor.Env = append(harness.RaceEnv(), "HOME="+d.dir, "PATH="+os.Getenv("PATH"), "MCP_TOKEN="+token,
		"VAULT_ADDR=http://"+d.addresses[0], "VAULT_TOKEN="+root, "MCP_GATEWAY_URL=http://"+d.addresses[1], "MCP_GATEWAY_ADMIN_URL=http://"+d.addresses[2])
	out, err := doctor.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, want := range []string{
		"the credential cert of the server whoami-stdio is granted to the client cursor-local by demo-pki/issue/client",
		"the credential user of the server whoami-http is granted to the client cursor-local by demo-kv/data/mcp:cursor-local",
		"the client of MCP_TOKEN reaches the server whoami-http through the gateway",
		"the gateway starts the server whoami-stdio, and it answers",
		"is revoked: child tokens: 1, leases: 2",
		"Nothing is wrong.",
	} {
		require.Contains(t, string(out), want)
	}
}

// assertClientsAreApart fails the test if Vault gives one client's child token a secret of
// another client.
func assertClientsAreApart(t *testing.T, vault *api.Client) {
	t.Helper()
	minted, err := vault.Logical().Write("auth/token/create/"+provision.UpstreamRole, harness.Map{"entity_alias": "mcp:ann", "ttl": "1m"})
	require.NoError(t, err)
	ann, err := vault.Clone()
	require.NoError(t, err)
	ann.SetToken(minted.Auth.ClientToken)
	_, err = ann.Logical().Read("demo-kv/data/mcp:cursor-local")
	require.ErrorContains(t, err, "permission denied")
	for _, name := range []string{"urn:mcp-demo:mcp:cursor-local", "urn:mcp-demo:mcp:ann/x", "urn:other:mcp:ann"} {
		_, err = ann.Logical().Write("demo-pki/issue/client", harness.Map{"uri_sans": name})
		require.ErrorContains(t, err, "not valid for this role", name)
	}
	_, err = ann.Logical().Write("demo-pki/issue/client", harness.Map{"common_name": "mcp:cursor-local"})
	require.ErrorContains(t, err, "not allowed by this role")
	_, err = ann.Logical().Write("demo-pki/issue/client", harness.Map{"uri_sans": "urn:mcp-demo:mcp:ann"})
	require.NoError(t, err)
	_, err = ann.Logical().Write("auth/token/revoke-self", nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(keys(t, vault, leases)) == 0 }, time.Minute, 50*time.Millisecond)
}

// keys lists a path of Vault.
func keys(t *testing.T, vault *api.Client, path string) []string {
	t.Helper()
	list, err := vault.Logical().List(path)
	require.NoError(t, err)
	if list == nil {
		return nil
	}
	var names []string
	for _, name := range list.Data["keys"].([]any) {
		names = append(names, name.(string))
	}
	return names
}
