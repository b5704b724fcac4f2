package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// The data of a credential and the content of files may be secrets. Vault's own audit log and
// server log, which the harness searches, have them neither from a write nor from a refusal.
func TestWhatCredentialsHideIsInNoAnswerAndInNoLog(t *testing.T) {
	const inData, inFile = "secret-in-the-data-0123456789", "secret-in-a-file-0123456789"
	h := harness.New(t)
	h.Secret(inData)
	h.Secret(inFile)
	server := func(spec any) harness.Map {
		return harness.Map{
			"transport": "stdio", "command": "/usr/local/bin/server",
			"credentials": harness.Map{"otp": spec}, "env": harness.Map{"KEY": "{{otp.key}}", "FILE": "{{file.conf}}"},
			"files": harness.Map{"conf": inFile + " {{otp.username}}"},
		}
	}
	spec := harness.Map{"path": "ssh/creds/otp", "method": "write", "data": harness.Map{"ip": inData, "port": 22}, "refresh": "1m"}
	h.Write("mcp/servers/s", server(spec))

	shown := h.Read("mcp/servers/s")
	require.Equal(t, harness.Map{"otp": harness.Map{
		"path": "ssh/creds/otp", "method": "write", "refresh": json.Number("60"), "data": []any{"ip", "port"},
	}}, shown["credentials"])
	require.Equal(t, []any{"conf"}, shown["files"])
	require.NotContains(t, fmt.Sprint(shown), "secret-in-")
	full := h.Read("mcp/gateway/servers")["credential_servers"].(harness.Map)["s"].(harness.Map)
	require.Equal(t, harness.Map{"otp": harness.Map{
		"path": "ssh/creds/otp", "method": "write", "refresh": json.Number("60"), "data": harness.Map{"ip": inData, "port": "22"},
	}}, full["credentials"])
	require.Equal(t, harness.Map{"conf": inFile + " {{otp.username}}"}, full["files"])

	for name, tc := range map[string]struct {
		data harness.Map
		want string
	}{
		"a number that loses digits": {server(harness.Map{"path": "a/b", "method": "write", "data": harness.Map{"x": inData, "n": 1.1}}), "field credentials"},
		"data in the wrong form":     {server(harness.Map{"path": "a/b", "method": "write", "data": []string{inData}}), "field credentials"},
		"an object too deep":         {server(harness.Map{"path": "a/b", "method": "write", "data": harness.Map{"x": harness.Map{"y": inData}}}), "field credentials"},
		"data of a read":             {server(harness.Map{"path": "a/b", "data": harness.Map{"x": inData}}), "needs method write"},
		"a list of credentials":      {harness.Map{"credentials": []string{inData}}, "field credentials"},
		"text in their place":        {harness.Map{"credentials": inData}, "field credentials"},
		"a list of files":            {harness.Map{"files": []string{inFile}}, "field files"},
		"a file with a placeholder":  {harness.Map{"files": harness.Map{"conf": inFile + "{{nothing.there}}"}}, "field files"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.TryWrite("mcp/servers/s", tc.data)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "secret-in-")
		})
	}
	require.Equal(t, full, h.Read("mcp/gateway/servers")["credential_servers"].(harness.Map)["s"], "what was refused has changed something")

	answer, err := h.Vault.Client().Logical().WriteWithContext(t.Context(), "mcp/servers/s", harness.Map{"command": "/usr/local/bin/other"})
	require.NoError(t, err)
	warnings := strings.Join(answer.Warnings, "\n")
	require.Contains(t, warnings, "the credentials of the earlier place were dropped")
	require.Contains(t, warnings, "the files of the earlier place were dropped")
	require.NotContains(t, warnings, "secret-in-")
	full = h.Read("mcp/gateway/servers")["servers"].(harness.Map)["s"].(harness.Map)
	require.Empty(t, full["credentials"])
	require.Empty(t, full["files"])
}

func TestAClientsUpstreamPoliciesArriveInItsLookup(t *testing.T) {
	h := harness.New(t)
	token := h.CreateClient("c", harness.Map{"upstream_policies": []string{"mcp-upstream", "mcp-search"}})
	lookup := func() any { return h.Write("mcp/lookup", harness.Map{"token": token})["upstream_policies"] }
	require.Equal(t, []any{"mcp-upstream", "mcp-search"}, lookup())
	h.Write("mcp/clients/c", harness.Map{"upstream_policies": []string{}})
	require.Equal(t, []any{}, lookup())
	_, err := h.Vault.Client().Logical().JSONMergePatch(t.Context(), "mcp/clients/c", harness.Map{"upstream_policies": nil})
	require.NoError(t, err)
	require.Nil(t, lookup())
}
