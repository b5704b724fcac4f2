// Package growth measures what a gateway costs as there is more of everything:
// tokens, entries of a policy, servers, open streams, gateways that follow the change
// feed. `make bench-growth`.
package growth
