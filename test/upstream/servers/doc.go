// Package servers has the MCP servers for which test/upstream leases credentials. Each
// tells which it was called or started with, or uses them: in a database, or in Vault.
//
// Those on HTTP run in the test's process. Those on stdio are the test's own program,
// started with the variable [Variable]: its TestMain calls [Main].
package servers
