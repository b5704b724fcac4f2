// Package policies holds the ACL policies for Vault that come with the engine.
package policies

import (
	_ "embed"
	"strings"
)

// What the policies are called in Vault.
const (
	GatewayName   = "mcp-gateway"
	AdminName     = "mcp-admin"
	TeamAdminName = "mcp-team-admin"
	ClientName    = "mcp-client"
)

// Gateway is what a gateway may do in Vault.
//
//go:embed mcp-gateway.hcl
var Gateway string

// Admin is what an administrator may do, who sets the broker up.
//
//go:embed mcp-admin.hcl
var Admin string

// TeamAdmin is an example: what an administrator of one team's clients may do.
//
//go:embed mcp-team-admin.hcl
var TeamAdmin string

//go:embed mcp-client.hcl
var client string

// Client is what an MCP client may do that logs in at the auth method with the
// given accessor.
func Client(accessor string) string {
	return strings.ReplaceAll(client, "AUTH_ACCESSOR", accessor)
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
