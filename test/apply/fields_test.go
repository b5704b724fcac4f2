package apply

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestApplySetsEveryFieldThatTheEngineTakes sets them all in HCL, and reads them back.
// The engine's own description says which there are, so that none is forgotten.
func TestApplySetsEveryFieldThatTheEngineTakes(t *testing.T) {
	a := newApplying(t)
	a.Secret(refToken)
	a.env = append(a.env, "TOKEN="+refToken)
	a.file(t, "corp.json", `{"allowedMcpServers": [{"serverName": "files"}], "deniedMcpServers": [{"serverName": "x"}], "allowManagedMcpServersOnly": false}`)
	a.file(t, "broker.hcl", `
config {
  default_ttl             = "240h"
  max_ttl                 = "100d"
  grace_period            = "10m"
  min_custom_token_length = 16
  max_wait                = "5s"
  max_watchers            = 100
  seal                    = "none"
  usage_days              = 30
}
server "files" {
  transport   = "stdio"
  command     = "/usr/local/bin/files-server"
  args        = ["--root", "/srv"]
  env         = { LEVEL = "debug" }
  shared      = true
  description = "Files"
}
server "github" {
  transport = "http"
  url       = "https://example.com/mcp?tenant=a"
  headers   = { X-Team = "search" }
  disabled  = true
  pin       = "enforce"
  pin_kinds = ["tool", "instructions"]
}
server "orders" {
  transport = "stdio"
  command   = "/usr/local/bin/pg-mcp"
  credentials = {
    db  = "database/creds/orders-ro"
    otp = { path = "ssh/creds/otp", method = "write", data = { ip = "10.0.0.1" }, refresh = "1m" }
  }
  env            = { PGPASSWORD = "{{db.password}}", KEY = "{{file.key}}", VAULT_TOKEN = "{{vault.token}}" }
  files          = { key = "{{otp.key}}" }
  vault_policies = ["mcp-orders"]
}
policy "corp" {
  file = "corp.json"
}
role "engineer" {
  allowed_servers   = ["github"]
  allowed_tools     = ["github/get_*"]
  denied_tools      = ["github/get_secret"]
  allowed_prompts   = []
  denied_prompts    = ["github/x"]
  allowed_resources = ["github/repo://*"]
  denied_resources  = ["github/repo://secret/*"]
  rate_limit        = 2.5
  rate_burst        = 7
}
client "all" {
  role              = "engineer"
  allowed_servers   = ["files", "github"]
  allowed_tools     = ["files/*"]
  denied_tools      = ["files/delete_*"]
  allowed_prompts   = []
  denied_prompts    = ["files/deploy"]
  allowed_resources = ["files/file:///srv/*"]
  denied_resources  = ["*/*secret*"]
  rate_limit        = 0.5
  rate_burst        = 3
  policies          = ["corp"]
  token_ttl         = "1h"
  token_max_ttl     = "2h"
  token_bound_cidrs = ["10.0.0.0/8"]
  metadata          = { team = "search" }
  seal              = "none"
  disabled          = true
  upstream_policies = ["mcp-search"]
  sign_in           = true
  access_token      = env("TOKEN")
}`)
	noSecret(t, a.applied(t))
	require.Contains(t, a.applied(t), "Nothing to do")

	// All other fields: tested elsewhere, or not for files.
	elsewhere := []string{"name", "access_token", "access_token_ciphertext", "allow_reuse", "dry_run", "expand_env", "force", "sign_in_logins"}
	schemas := map[string]string{
		"mcp/config": "McpConfigureRequest", "mcp/clients/all": "McpWriteClientRequest", "mcp/roles/engineer": "McpWriteRoleRequest",
		"mcp/servers/files": "McpWriteServerRequest", "mcp/servers/github": "McpWriteServerRequest", "mcp/servers/orders": "McpWriteServerRequest",
	}
	for at, want := range map[string]harness.Map{
		"mcp/config": {
			"default_ttl": "864000", "max_ttl": "8640000", "grace_period": "600", "min_custom_token_length": "16",
			"max_wait": "5", "max_watchers": "100", "seal": "none", "usage_days": "30",
		},
		"mcp/servers/files": {
			"transport": "stdio", "command": "/usr/local/bin/files-server", "args": []any{"--root", "/srv"}, "env": []any{"LEVEL"},
			"shared": true, "description": "Files", "url": "", "headers": []any{}, "disabled": false,
			"pin": "off", "pin_kinds": []any{},
			"credentials": "", "files": []any{}, "vault_policies": []any{},
		},
		"mcp/servers/github": {
			"transport": "http", "url": "https://example.com/mcp", "headers": []any{"X-Team"}, "url_query": []any{"tenant"},
			"command": "", "args": []any{}, "env": []any{}, "shared": false, "description": "", "disabled": true,
			"pin": "enforce", "pin_kinds": []any{"tool", "instructions"},
			"credentials": "", "files": []any{}, "vault_policies": []any{},
		},
		"mcp/servers/orders": {
			"transport": "stdio", "command": "/usr/local/bin/pg-mcp", "env": []any{"KEY", "PGPASSWORD", "VAULT_TOKEN"},
			"url": "", "args": []any{}, "headers": []any{}, "shared": false, "description": "", "disabled": false,
			"credentials": harness.Map{
				"db":  harness.Map{"path": "database/creds/orders-ro", "method": "read", "refresh": nil, "data": []any{}},
				"otp": harness.Map{"path": "ssh/creds/otp", "method": "write", "refresh": json.Number("60"), "data": []any{"ip"}},
			},
			"files": []any{"key"}, "vault_policies": []any{"mcp-orders"}, "pin": "off", "pin_kinds": []any{},
		},
		"mcp/roles/engineer": {
			"allowed_servers": []any{"github"}, "allowed_tools": []any{"github/get_*"}, "denied_tools": []any{"github/get_secret"},
			"allowed_prompts": []any{}, "denied_prompts": []any{"github/x"},
			"allowed_resources": []any{"github/repo://*"}, "denied_resources": []any{"github/repo://secret/*"},
			"rate_limit": "2.5", "rate_burst": "7",
		},
		"mcp/clients/all": {
			"role":            "engineer",
			"allowed_servers": []any{"files", "github"}, "allowed_tools": []any{"files/*"}, "denied_tools": []any{"files/delete_*"},
			"allowed_prompts": []any{}, "denied_prompts": []any{"files/deploy"},
			"allowed_resources": []any{"files/file:///srv/*"}, "denied_resources": []any{"*/*secret*"},
			"rate_limit": json.Number("0.5"), "rate_burst": json.Number("3"),
			"policies": []any{"corp"}, "token_ttl": "3600", "token_max_ttl": "7200", "token_bound_cidrs": []any{"10.0.0.0/8"},
			"metadata": harness.Map{"team": "search"}, "seal": "none", "disabled": true,
			"upstream_policies": []any{"mcp-search"}, "sign_in": true,
		},
	} {
		have := a.Read(at)
		for field, value := range want {
			if text, ok := value.(string); ok && text != "" {
				require.Equal(t, text, fmt.Sprint(have[field]), "%s of %s", field, at)
				continue
			}
			if value == "" {
				value = nil // as what is not set reads
			}
			require.Equal(t, value, have[field], "%s of %s", field, at)
		}
		for _, field := range requestFields(t, a.Harness, schemas[at]) {
			if _, checked := want[field]; !checked && !slices.Contains(elsewhere, field) {
				t.Errorf("the engine takes %s for %s, and a file cannot say it", field, at)
			}
		}
	}
}

// requestFields are the fields of a write, as the engine describes itself.
func requestFields(t *testing.T, h *harness.Harness, schema string) []string {
	t.Helper()
	answer, err := h.Vault.Client().Logical().ReadRawWithContext(t.Context(), "sys/internal/specs/openapi")
	require.NoError(t, err)
	defer answer.Body.Close()
	var description struct {
		Components struct {
			Schemas map[string]struct {
				Properties harness.Map `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	require.NoError(t, answer.DecodeJSON(&description))
	fields := slices.Sorted(maps.Keys(description.Components.Schemas[schema].Properties))
	require.NotEmpty(t, fields, schema)
	return fields
}
