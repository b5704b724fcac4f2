// Package revocation measures how long a revocation takes to reach many gateways:
// from Vault's answer to the first refusal, and to the end of the last stream.
// `make bench-revocation`. It also measures how long it takes until the leases of all clients
// have ended: `make bench-credentials`.
package revocation
