// Package revocation measures how long a revocation takes to reach many gateways:
// from Vault's answer to the first refusal, and to the end of the last stream.
// `make bench-revocation`.
package revocation
