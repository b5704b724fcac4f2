// Package gateway sends a gateway what clients may send, and what attackers might: on the
// wire, in HTTP, in JSON, and without a token that is good. It also starts gateways where
// something is in the way.
package gateway
