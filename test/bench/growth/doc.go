// Package growth measures how a gateway's costs grow with the number of tokens, entries of
// a policy, servers, open streams, gateways that follow the change feed, and clients with
// credentials that are leased. `make bench-growth`, and `make bench-credentials` for the last.
package growth
