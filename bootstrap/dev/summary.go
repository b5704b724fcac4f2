package dev

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"text/template"
)

var summary = template.Must(template.New("summary").Parse(`
Everything runs. Configuration for an MCP client (Cursor: .cursor/mcp.json, Claude
Code: .mcp.json), with the token of {{.Client}}, which is shown this once:

{
  "mcpServers": {
    "{{.Server}}": {
      "type": "http",
      "url": "{{.URL}}",
      "headers": {"Authorization": "Bearer {{.Token}}"}
    }
  }
}

To try it, in another terminal, in this folder:

  source {{.Env}}

  # A call that {{.Client}} may make: 200, and 2 + 3
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/servers/{{.Server}}/mcp"

  # The same to a server that it may not reach: 403
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/servers/{{.Other}}/mcp"

{{- if .KMS}}

  # AWS KMS (a double of it) refusing its key, and within seconds: 401; and back
  curl -d '{"code": "AccessDeniedException"}' {{.KMS}}/-/faults && sleep 6
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/servers/{{.Server}}/mcp"
  curl -X DELETE {{.KMS}}/-/faults && sleep 6
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/servers/{{.Server}}/mcp"
{{- end}}

  # Its tokens revoked in Vault, and within a second the first call again: 401
  {{.Vault}} write -f {{.Mount}}/revoke-client/{{.Client}} && sleep 1
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/servers/{{.Server}}/mcp"

Logs, and the gateway's audit: {{.Logs}}
Vault: {{.VaultURL}}, root token in {{.Env}}. Ctrl-C stops everything.
`))

// summarize prints what there is now, and what to do with it.
func (s *system) summarize() error {
	if err := s.writeClientFiles(); err != nil {
		return err
	}
	if err := summary.Execute(s.out, map[string]string{
		"Client":   client,
		"Server":   calculator,
		"Other":    notes,
		"URL":      s.gatewayURL() + clientPath,
		"Token":    s.clientToken,
		"Env":      shown(s.path(envFile)),
		"Headers":  shown(s.path(headersFile)),
		"Body":     shown(s.path(bodyFile)),
		"Logs":     shown(filepath.Dir(s.log(""))),
		"KMS":      s.kms["AWS_ENDPOINT_URL_KMS"],
		"Mount":    mount,
		"Vault":    s.shownVault(),
		"VaultURL": s.vaultURL(),
	}); err != nil {
		return fmt.Errorf("cannot print the summary: %w", err)
	}
	return nil
}

// vaultName is the name of Vault's program.
const vaultName = "vault"

// shownVault is how a user calls the Vault that runs here, once the file of
// variables was sourced.
func (s *system) shownVault() string {
	if s.vaultOnPath() != "" {
		return vaultName
	}
	return s.vaultCommand()
}

// vaultCommand is how a user calls the Vault that runs here.
func (s *system) vaultCommand() string {
	if found, err := exec.LookPath(vaultName); err == nil && found == s.Vault {
		return vaultName
	}
	return shown(s.Vault)
}
