// Package clients runs popular MCP clients and servers from npm against a real Vault and a
// real gateway. Each client lists tools and calls one. It is refused with a revoked token,
// and at a server that it may not reach. Each server behaves the same through the gateway as
// without it. Each file that mcp-bootstrap exports is read by its client. And those that can
// sign people in do so, refresh, are revoked and sign in again.
//
// The programs reach only the loopback, and a test fails if one tries more. No account is
// needed: a scripted model answers Claude Code.
package clients
