// Package clients runs the MCP clients that people use, and servers that they
// run, as npm has them, against a real Vault and a real gateway: each client lists
// tools, calls one, and is refused with a revoked token and at a server that it may
// not reach; each server is the same through the gateway as without it; each file
// that mcp-bootstrap exports is read by the client that it is for.
//
// No program reaches anything but the loopback, and a test fails where one tries
// to. No account is needed: where Claude Code would ask a model what to do, a
// scripted one answers.
package clients
