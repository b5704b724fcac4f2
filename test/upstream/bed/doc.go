// Package bed runs the sources of upstream credentials, beside the harness's Vault:
// PostgreSQL, an LDAP server, and Vault's engines with the roles and policies that the
// recipes of docs/upstream-credentials.md name.
//
// The engines kv, pki and ssh are in every Vault. The engines for databases and LDAP are
// not in a minimal one, so their tests run in `make test-upstream`, which sets
// TEST_UPSTREAM=required and names a whole Vault. There, a part that is missing fails the
// tests.
package bed
