package harness

import "vault-plugin-secrets-mcp/bootstrap/process"

// Place is a separate machine for the network, with a name, an address and a certificate.
// Vault and gateways that run there speak TLS.
type Place struct {
	// Name is its name in DNS; Address is its IP address.
	Name, Address string
	// Certificate, Key and the signing Authority are files in PEM.
	Certificate, Key, Authority string
	// Enter makes a program run there instead of beside the test.
	Enter func(process.Spec) process.Spec
}

// The ports of programs at a place.
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

// Quick has nodes at places miss their leader as soon as those on the loopback do: after a
// second, not five.
func Quick() Option { return func(o *options) { o.quick = true } }
