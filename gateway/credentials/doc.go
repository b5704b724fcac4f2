// Package credentials leases the credentials of registered servers from Vault: for each
// principal, under the principal's own Vault entity, and for as long as the principal may use
// them.
//
// A [Server] belongs to a registration. For each principal that uses the server it has a
// holding. The holding's one goroutine makes all requests to Vault for it. It mints a child
// token of the gateway's own, with the principal's alias, and compares the answer with the
// request: a token role allows aliases, but forces none. As that child it reads the
// registration's credentials, and renders them into a [Set]: the headers, variables and files
// with which requests are sent. So the warm path reads one pointer and renders nothing.
//
// All credentials that were read at one time are a lease here, and end by one request: the
// child revokes itself, and Vault ends all leases below it. The gateway needs no right on
// leases, or on tokens other than those that it created.
//
// The holding renews renewable tokens and leases at two thirds of their life. If Vault
// grants a shorter time than requested, or the gateway has another login, or a secret
// without a lease has changed, it makes a new set, and only then supersedes the old one.
// Requests in flight stay on the old set until shortly before its end; then they are cut
// with [ErrEnded].
//
// When the principal loses its access, [Store.OnEnd] ends its sets: requests are cut, and the
// children are revoked as soon as no request holds them, half a second later at most. If a
// request to Vault is in flight at that moment, its result is revoked when the answer comes,
// and never used. A request that finds no holding begins one and then checks whether its own
// context is done: since access ends by that context first, either the end finds the holding,
// or the request finds the end.
//
// If credentials cannot be read, the result is an [Error]: the request is refused, and
// nothing is sent to the server. There is no other value to fall back to.
package credentials
