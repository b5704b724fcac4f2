// Package field runs the system among the parts that companies have: Vault with TLS
// from a private authority on three nodes, gateways with TLS behind nginx and behind
// HAProxy, a proxy before one MCP server, servers from npm that end and start
// again, and the clients that people use. Whatever a deployment adds is tried here first.
//
//	office (the test, and its clients: Claude Code in two releases, mcp-remote,
//	   │    the inspector, mcporter, the Go SDK)
//	   ├──────────────────┐
//	 nginx :443       haproxy :443, TLS again towards the gateways
//	   │                  │
//	   ├──────────┬───────┘
//	gateway-1  gateway-2 ──────────── haproxy :8200 ── vault-1, vault-2, vault-3
//	   │          │                   (TLS goes through)  (integrated storage, TLS)
//	   ├──────────┤
//	   │          ├── servers: server-everything (400 for a session that it does not
//	   │          │            know), and the TypeScript SDK's own example
//	   │          ├── office:  one that answers as FastMCP on Starlette does (307 to
//	   │          │            the other slash)
//	   │          ├── proxy:   HAProxy ── partner: server-everything, which nobody
//	   │          │            reaches but by the proxy
//	   └──────────┴── children: one on stdio that takes 30 s to start
//
// Each of these is a network namespace of its own, and so are links that a test may
// cut, in both directions or in one. The test itself runs in such a namespace, without
// a way to anywhere else: no program can reach the Internet, and nothing that is started
// is reached from outside.
//
// scripts/field.sh says what the machine lacks for this, and installs it. Without any
// of it these tests are left out, and `make test` names at its end what is missing;
// where TEST_FIELD is "required" they fail.
package field
