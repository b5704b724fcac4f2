// Package policies holds the ACL policies for Vault that come with the engine.
package policies

import (
	_ "embed"
	"fmt"
	"strings"
)

// Names of the policies in Vault.
const (
	GatewayName   = "mcp-gateway"
	AdminName     = "mcp-admin"
	TeamAdminName = "mcp-team-admin"
	AuditorName   = "mcp-auditor"
	ApproverName  = "mcp-approver"
	RegistrarName = "mcp-registrar"
	ClientName    = "mcp-client"
	UpstreamName  = "mcp-upstream"
	PersonName    = "mcp-person"
)

// Gateway is the policy of a gateway.
//
//go:embed mcp-gateway.hcl
var Gateway string

// Admin is the policy of an administrator who sets the broker up.
//
//go:embed mcp-admin.hcl
var Admin string

// TeamAdmin is an example: the policy of an administrator of one team's clients.
//
//go:embed mcp-team-admin.hcl
var TeamAdmin string

// Auditor is the policy of a person who reviews the rights of clients.
//
//go:embed mcp-auditor.hcl
var Auditor string

// Approver is the policy of a person who approves definitions of servers.
//
//go:embed mcp-approver.hcl
var Approver string

// Registrar is the policy of a person who registers servers; others approve the definitions
// of these servers.
//
//go:embed mcp-registrar.hcl
var Registrar string

//go:embed mcp-client.hcl
var client string

// Client is the policy of an MCP client that logs in at the auth method with the given
// accessor.
func Client(accessor string) string {
	return strings.ReplaceAll(client, "AUTH_ACCESSOR", accessor)
}

//go:embed mcp-upstream.hcl
var upstream string

// Upstream is the policy of the child tokens with which gateways lease upstream credentials.
// rules are added to it. The accessor is that of Vault's token method, at which the children's
// entities have their aliases.
func Upstream(accessor, rules string) string {
	text := upstream
	if rules != "" {
		text += "\n" + rules
	}
	return strings.ReplaceAll(text, "TOKEN_ACCESSOR", accessor)
}

// Person is the policy of the Vault tokens of people who sign in.
//
//go:embed mcp-person.hcl
var Person string

// PersonClientName is the name of the policy PersonClient for a client.
func PersonClientName(client string) string { return PersonName + "-" + client }

// PersonClient is the policy of those who may sign in as a client: Vault's ACL decides who
// that is. It grants tokens with a resource alone, and no others of the client's.
func PersonClient(client string) string {
	return fmt.Sprintf(`path "mcp/creds/%s" {
  capabilities = ["update"]
  required_parameters = ["resource", "application", "login"]
}
`, client)
}

// At rewrites the rules of a policy, which are for an engine at mcp/, for one
// that is mounted elsewhere.
func At(mount, rules string) string {
	mount = strings.Trim(mount, "/")
	return strings.NewReplacer(
		`"mcp/`, `"`+mount+`/`,
		"/mcp/creds/", "/"+mount+"/creds/",
		`"sys/mounts/mcp"`, `"sys/mounts/`+mount+`"`,
		`"sys/mounts/mcp/tune"`, `"sys/mounts/`+mount+`/tune"`,
	).Replace(rules)
}
