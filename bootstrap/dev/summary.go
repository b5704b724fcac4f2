package dev

import (
	"fmt"
	"path/filepath"
	"text/template"

	"vault-plugin-secrets-mcp/bootstrap/agent"
)

var summary = template.Must(template.New("summary").Parse(`
Everything runs. This is the configuration of an MCP client, as Cursor reads it
from .cursor/mcp.json and Claude Code from .mcp.json. Its token, that of
{{.Client}}, {{if .SameToken}}is still that of the last run:{{else}}is shown this once:{{end}}

{
  "mcpServers": {
    "mcp": {
      "type": "http",
      "url": "{{.URL}}",
      "headers": {
        "Authorization":
          "Bearer {{.Token}}"
      }
    }
  }
}
{{- if .People}}

People sign in instead. An MCP client that speaks OAuth needs the URL alone,
and opens a browser:

  {{.SignInURL}}

  claude mcp add --transport http mcp-demo \
    {{.SignInURL}}

Two people can log in there, with the passwords of this run:
{{range .People}}
  {{.Name}}  {{.Password}}
{{- end}}
{{- end}}
{{- range .Notes}}

Note: {{.}}
{{- end}}

To try it, in another terminal, in this folder:

  source {{.Env}}

  # A call of {{.Server}}__add, which {{.Client}} may make: 200, and 2 + 3
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/mcp"

  # A server that it may not reach, by its own path: 403
  curl -i -H @{{.Headers}} -d @{{.Body}} \
    "$MCP_GATEWAY_URL/servers/{{.Other}}/mcp"

{{- range .Own}}

  # Your server {{.}}: its answer to a client that connects
  curl -i -H @{{$.ConnectHeaders}} -d @{{$.Connect}} \
    "$MCP_GATEWAY_URL/servers/{{.}}/mcp" && echo
{{- end}}

{{- if .Agent}}

  # The same call by {{.Agent}}, whose token Vault Agent keeps in a file,
  # renews, and replaces every {{.AgentLife}}: 200
  { printf 'Authorization: Bearer '; cat {{.AgentToken}}; echo; } |
    curl -i -H @- -H @{{.CallHeaders}} -d @{{.Body}} \
      "$MCP_GATEWAY_URL/mcp"

  # What Claude Code runs, instead of having a token in its configuration:
  #   "headersHelper": "{{.AgentHelperPath}}
  #     {{.AgentTokenPath}}" (in one line)
  {{.AgentHelper}} {{.AgentToken}} | cut -c 1-31
{{- end}}

{{- if .Upstream}}

  # A server that tells as whom it was called: 200, with an account and a
  # certificate of {{.Client}} alone. The gateway has leased them from Vault
  curl -i -H @{{.WhoamiHeaders}} -d @{{.WhoamiBody}} \
    "$MCP_GATEWAY_URL/servers/{{.WhoamiHTTP}}/mcp"

  # The same of one on stdio, which has them in its environment and a file
  curl -i -H @{{.WhoamiHeaders}} -d @{{.WhoamiBody}} \
    "$MCP_GATEWAY_URL/servers/{{.WhoamiStdio}}/mcp"

  # What was leased, and stays for other calls: a certificate for each of them
  {{.Vault}} list sys/leases/lookup/{{.Issuer}}
{{- end}}

{{- if .People}}

  # What an MCP client without a token is told, and follows: 401
  curl -i "$MCP_GATEWAY_URL/sign-in/mcp"

  # Who is signed in, with which application, and the command that ends it
  {{.Vault}} list -detailed {{.Mount}}/sign-ins || true
{{- end}}

{{- if .KMS}}

  # AWS KMS (a double of it) refusing its key, and within seconds: 401; and back
  curl -d '{"code": "AccessDeniedException"}' \
    {{.KMS}}/-/faults && sleep 6
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/mcp"
  curl -X DELETE {{.KMS}}/-/faults && sleep 6
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/mcp"
{{- end}}

{{- if .HA}}

  # Kill the Vault that leads: known tokens continue to work, 200. Within
  # seconds another one leads, and the one that was killed is started again
  {{.Vault}} operator raft list-peers
  LEADER=$({{.Vault}} operator raft list-peers | awk '/leader/ { print $1 }')
  kill -9 $(cat {{.Dir}}/$LEADER.pid)
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/mcp"
  until {{.Vault}} list {{.Mount}}/clients; do sleep 1; done
{{- end}}

  # Its tokens revoked in Vault, and within {{if .HA}}seconds of a new leader{{else}}a second{{end}} the first
  # call again: 401
  {{.Vault}} write -f {{.Mount}}/revoke-client/{{.Client}} && sleep {{if .HA}}5{{else}}1{{end}}
  curl -i -H @{{.Headers}} -d @{{.Body}} "$MCP_GATEWAY_URL/mcp"

{{- if .Upstream}}

  # What was leased for it is revoked too. This ends when nothing is left
  while {{.Vault}} list sys/leases/lookup/{{.Issuer}}; do sleep 1; done
{{- end}}

Logs, and the gateway's audit: {{.Logs}}
Vault: {{.VaultURL}}, root token in {{.Env}}
{{- if .Keep}}
Kept for the next start with -keep: Vault's storage, in {{.Storage}},
and the keys to it, in {{.Kept}}: its unseal key, its root token and
the token above, for you alone. Remove both to forget it all.
Ctrl-C stops everything.
{{- else}}
Ctrl-C stops everything. Vault forgets everything{{if not (or .HA .KMS)}}; with -keep it does not{{end}}.
{{- end}}
`))

// summarize prints the parts that run now, and commands to try.
func (s *system) summarize() error {
	if err := s.writeClientFiles(); err != nil {
		return err
	}
	data := map[string]any{
		"Client":         client,
		"URL":            s.gatewayURL() + clientPath,
		"Notes":          s.notes(),
		"Server":         calculator,
		"Other":          notesServer,
		"Own":            s.ownNames(),
		"Token":          s.clientToken,
		"Env":            shown(s.path(envFile)),
		"Headers":        shown(s.path(headersFile)),
		"CallHeaders":    shown(s.path(callHeadersFile)),
		"Body":           shown(s.path(bodyFile)),
		"ConnectHeaders": shown(s.path(connectOnlyFile)),
		"Connect":        shown(s.path(connectFile)),
		"Logs":           shown(filepath.Dir(s.log(""))),
		"KMS":            s.kms["AWS_ENDPOINT_URL_KMS"],
		"HA":             s.HA,
		"Keep":           s.Keep,
		"SameToken":      s.sameToken,
		"Storage":        shown(s.path(storageDir)),
		"Kept":           shown(s.path(keptFile)),
		"Dir":            shown(s.Dir),
		"Mount":          mount,
		"Vault":          s.shownVault(),
		"VaultURL":       s.vaultURL(),
	}
	if s.Agent {
		data["Agent"], data["AgentLife"] = agentClient, "three minutes"
		data["AgentToken"], data["AgentHelper"] = shown(s.agentPath("token")), shown(s.agentPath(agent.HeadersHelper))
		data["AgentTokenPath"], data["AgentHelperPath"] = s.agentPath("token"), s.agentPath(agent.HeadersHelper)
	}
	if s.Upstream {
		data["Upstream"], data["Issuer"] = true, issuer
		data["WhoamiHTTP"], data["WhoamiStdio"] = whoamiHTTP, whoamiStdio
		data["WhoamiHeaders"], data["WhoamiBody"] = shown(s.path(whoamiHeadersFile)), shown(s.path(whoamiBodyFile))
	}
	if s.SignIn {
		data["SignInURL"], data["People"] = s.gatewayURL()+signInPath, s.people.list()
	}
	if err := summary.Execute(s.out, data); err != nil {
		return fmt.Errorf("cannot print the summary: %w", err)
	}
	return nil
}

// notes are for the user who has started it.
func (s *system) notes() []string {
	if s.Keep || !s.hasKept() {
		return s.ownNotes
	}
	return append([]string{"the storage of an earlier run with -keep is left alone, and not used"}, s.ownNotes...)
}

// vaultName is the name of Vault's program.
const vaultName = "vault"

// shownVault is how a user calls the Vault that runs here, once the file of
// variables was sourced.
func (s *system) shownVault() string {
	if filepath.Base(s.Vault) == vaultName {
		return vaultName
	}
	return shown(s.Vault)
}
