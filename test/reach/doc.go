// Package reach tests how the programs reach a Vault that is set up as companies do:
// with TLS of a private authority that asks for certificates, at a socket, and with
// whatever the environment of Vault's own tools holds.
package reach
