// Package partition cuts the network between gateways, Vault's nodes and clients, and judges
// the answers to the requests meanwhile.
//
//	office (the test: clients, an administrator, the MCP server)
//	   ├── vault-1, vault-2, vault-3    (integrated storage, TLS)
//	   └── a gateway for each row, which asks one node of Vault
//
// Each is a network namespace. The office reaches all of them at all times, so it sees both
// sides of a cut. While links are cut, workers create, rotate, revoke and look up tokens at
// all three nodes, and clients call a tool at the gateways.
//
// In the end package history judges the engine's answers by a specification of a token's
// life, and the gateways' by the bounds of docs/reliability.md.
package partition
