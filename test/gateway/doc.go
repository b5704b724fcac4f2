// Package gateway sends a gateway the requests of clients and of attackers: on the wire, in
// HTTP, in JSON, and without a valid token. It also starts gateways under bad conditions.
package gateway
