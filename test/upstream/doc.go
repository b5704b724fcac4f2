// Package upstream tests credentials that gateways lease from Vault for MCP servers: with
// real engines, and with servers that use the credentials that they get.
package upstream
