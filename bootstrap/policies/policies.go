// Package policies holds the ACL policies for Vault that come with the engine.
package policies

import _ "embed"

// GatewayName is what the gateway's policy is called in Vault.
const GatewayName = "mcp-gateway"

// Gateway is what a gateway may do in Vault.
//
//go:embed mcp-gateway.hcl
var Gateway string
