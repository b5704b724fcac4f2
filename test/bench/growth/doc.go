// Package growth measures how a gateway's costs grow with the number of tokens, entries of
// a policy, servers, open streams, and gateways that follow the change feed. `make bench-growth`.
package growth
