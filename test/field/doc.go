// Package field runs the system in a company's surroundings: Vault with TLS
// from a private authority on three nodes, gateways with TLS behind nginx and behind
// HAProxy, a proxy before one MCP server, servers from npm that end and start
// again, and popular clients. Every addition to a deployment is tried here first.
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
//	   └──────────┴── children: one on stdio that takes 30 s to start, and one with
//	                  credentials that the gateways lease from Vault
//
// Each of these has its own network namespace, and so has each link that a test may cut, in
// one direction or in both. The test itself runs in a namespace without a route to the
// outside: no program can reach the Internet, and none can be reached from there.
//
// outbound_test.go has a smaller network for the ways out of a gateway: an HTTP proxy before a
// vendor's server, and rsyslog for audit lines.
//
// scripts/field.sh lists the programs that the machine lacks for this, and installs them.
// Without them these tests are skipped, and `make test` names the missing programs at its
// end. If TEST_FIELD is "required", they fail.
package field
