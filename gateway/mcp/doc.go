// Package mcp is the gateway's own side of MCP: it takes requests that
// [vault-plugin-secrets-mcp/gateway/access] has authenticated, decides what is
// left to decide about them, and hands them to the server that they name.
//
// The way of a request: its message is read once, strictly ([envelope]); tool
// rules are checked, the session is made sure to be the client's, the decision
// is recorded; only then is the server touched. What it is sent are the very
// bytes that were read, in a request built anew: nothing of the client's but
// the protocol's own headers reaches it.
//
// Towards the client the transport is always streamable HTTP, in both of the
// protocol's eras: with sessions (up to 2025-11-25) and without them (from
// 2026-07-28 on). Behind the gateway is a [link]: an HTTP server, to which
// answers are passed through as they stream; a server of the older HTTP+SSE
// transport, or a child process on stdio, to which a bridge translates.
package mcp
