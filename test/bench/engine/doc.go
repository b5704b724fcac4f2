// Package engine measures the secrets engine beside Vault's own token store, over
// HTTP and with one caller's token: `make bench-engine`.
package engine
