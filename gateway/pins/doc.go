// Package pins judges definitions of servers by their approvals, and reports those without one to
// Vault.
//
// A [Judge] judges by the pins of one server as they are now. A definition that was judged
// before is recognised by its bytes: that costs a hash of them and a read of a map, and no
// memory. One that is not approved waits for a report: once for each text, in a list of its server
// that has a bound. One report goes to Vault a second, of one server after the other. So a
// server that invents definitions without end fills its own list, and the others wait for it
// no longer than for any other server. Nothing of this is on a request's way but the digest of
// a text that was not seen before.
package pins
