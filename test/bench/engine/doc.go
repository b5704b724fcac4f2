// Package engine measures the secrets engine beside Vault's own token store, over
// HTTP and with one caller's token for both: `make bench-engine`.
//
// A caller with Vault's default policy, which every token carries unless it was made
// without, costs Vault the reading of that policy with each request: much more than
// either lookup. So everything is measured with both kinds of caller, and the ratio
// of those without it is the one that shows the engine itself.
package engine
