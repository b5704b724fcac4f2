// Package reach tests how the programs reach a Vault in a company's set-up: with TLS of a
// private authority and client certificates, at a socket, and with all variables of Vault's
// own tools.
package reach
