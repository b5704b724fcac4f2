package commands

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/review"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// reviewed runs mcp-bootstrap review and returns what it prints.
func reviewed(t *testing.T, h *harness.Harness, auditor *api.Client, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.Programs.Bootstrap, append([]string{"review"}, args...)...)
	cmd.Env = []string{
		"GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "HOME=" + h.Dir, "VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + auditor.Token(),
	}
	out, err := cmd.Output()
	if failed, ok := err.(*exec.ExitError); ok { //nolint:errorlint // of this command
		require.NoError(t, err, "%s", failed.Stderr)
	}
	require.NoError(t, err)
	return string(out)
}

func TestAReviewDecidesAsVaultDoesAndShowsNoSecret(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	auditor := stage.Holder(t, s.Harness, policies.AuditorName, policies.Auditor)
	s.Write("mcp/servers/private", harness.Map{"transport": "http", "url": "https://private.example.com/mcp?key=secret-in-a-query", "headers": harness.Map{"Authorization": "Bearer secret-in-a-header"}})
	s.Write("mcp/servers/files", harness.Map{"transport": "stdio", "command": "/usr/local/bin/files", "env": harness.Map{"KEY": "secret-in-a-variable"}})
	s.Write("mcp/policies/corp", harness.Map{"managed": true, "deniedMcpServers": `[{"serverUrl":"https://private.example.com/mcp?key=secret-*"}]`})
	tokens := []string{
		s.Client("editor", harness.Map{"denied_tools": "*/sub*"}),
		s.Client("agent", harness.Map{"allowed_servers": "*"}),
		s.Client("left", harness.Map{"disabled": true}),
	}
	s.Works(t, tokens[0])
	s.Gateway.Stop() // it reports usage

	var r review.Review
	require.NoError(t, json.Unmarshal([]byte(reviewed(t, s.Harness, auditor, "-format=json")), &r))
	require.Len(t, r.Pairs, 3*4)
	for _, p := range r.Pairs {
		answer := s.Write("mcp/evaluate", harness.Map{"client": p.Client, "server": p.Server})
		require.Equal(t, answer["allowed"], p.Allowed, "%s → %s", p.Client, p.Server)
		require.Equal(t, answer["decision"], p.Decision, "%s → %s", p.Client, p.Server)
		used := p.Client == "editor" && p.Server == stage.Calculator
		require.Equal(t, used, p.Usage == review.Used, "%s → %s", p.Client, p.Server)
		require.NotEqual(t, review.Unused, p.Usage, "no day is complete yet")
	}
	require.Empty(t, r.Commands)

	file := filepath.Join(s.Dir, "review")
	for _, format := range review.Formats() {
		require.Empty(t, reviewed(t, s.Harness, auditor, "-format="+format, "-out="+file))
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(text), "editor", format)
		for _, secret := range append([]string{"secret-in", auditor.Token()}, tokens...) {
			require.NotContains(t, string(text), secret, format)
		}
	}
}

func TestAnAuditorMayReviewAndNothingElse(t *testing.T) {
	h := harness.New(t)
	h.Write("mcp/servers/calculator", harness.Map{"transport": "http", "url": "http://127.0.0.1:1/mcp"})
	h.CreateClient("editor", harness.Map{"allowed_servers": "calculator"})
	auditor := stage.Holder(t, h, policies.AuditorName, policies.Auditor)
	accessor := h.Read("mcp/clients/editor")["accessor"]
	for _, path := range []string{
		"mcp/clients/editor", "mcp/clients/new", "mcp/servers/calculator", "mcp/policies/p", "mcp/roles/r", "mcp/rotate-client/editor", "mcp/revoke-client/editor",
		"mcp/revoke-all", "mcp/lookup", "mcp/lookup-accessor", "mcp/gateway/usage", "mcp/gateway/pins/calculator", "mcp/pins/calculator", "mcp/config", "mcp/creds/editor",
	} {
		_, err := auditor.Logical().WriteWithContext(t.Context(), path, harness.Map{"disabled": false})
		requireDenied(t, path, err)
	}
	for _, path := range []string{"mcp/gateway/servers", "mcp/gateway/keys", "mcp/creds/editor", "mcp/config", "mcp/changes", fmt.Sprintf("mcp/clients/editor/tokens/%s", accessor)} {
		_, err := auditor.Logical().ReadWithContext(t.Context(), path)
		requireDenied(t, path, err)
	}
	for _, path := range []string{"mcp/clients/editor", "mcp/pins/calculator"} {
		_, err := auditor.Logical().DeleteWithContext(t.Context(), path)
		requireDenied(t, path, err)
	}
	_, err := auditor.Logical().ReadWithContext(t.Context(), "mcp/pins/calculator")
	require.NoError(t, err)
	require.Contains(t, reviewed(t, h, auditor), "editor")
}

func requireDenied(t *testing.T, path string, err error) {
	t.Helper()
	var answer *api.ResponseError
	require.ErrorAs(t, err, &answer, path)
	require.Equal(t, http.StatusForbidden, answer.StatusCode, path)
}
