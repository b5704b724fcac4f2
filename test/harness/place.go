package harness

import "vault-plugin-secrets-mcp/bootstrap/process"

// Place is a machine of its own, as far as the network is concerned, with a name, an
// address and a certificate. Vault and gateways that run there speak TLS.
type Place struct {
	// Name is how others reach it, by DNS; Address is its IP address.
	Name, Address string
	// Certificate and Key are files in PEM, and Authority one of who signed it.
	Certificate, Key, Authority string
	// Enter has a program run there instead of where the test does.
	Enter func(process.Spec) process.Spec
}

// The ports of programs at a place of their own.
const (
	vaultPort   = "8200"
	clusterPort = "8201"
	gatewayPort = "8443"
	adminPort   = "8081"
)

// WithPlaces runs a node of Vault at each place, as a cluster on integrated storage,
// with TLS.
func WithPlaces(places ...Place) Option {
	return func(o *options) { o.nodes, o.places = len(places), places }
}
