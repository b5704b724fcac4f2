// Package credentials leases from Vault what registered servers need of credentials: for each
// principal, under the principal's own Vault entity, and for as long as it may use them.
//
// A [Server] belongs to a registration. For each principal that uses the server it has a
// holding, and the holding's one goroutine does all that Vault is asked for it. It mints a
// child token of the gateway's own, with the principal's alias, and compares the answer with
// what was asked: a token role allows aliases, but forces none. As that child it reads the
// registration's credentials, and renders them into a [Set]: the headers, variables and files
// that requests are sent with. So the warm path reads one pointer and renders nothing.
//
// Everything that was taken from Vault at one time is a lease, and ends by one request: the
// child revokes itself, and Vault ends all leases below it. The gateway needs no right on
// leases, or on tokens other than those that it made.
//
// The holding renews what can be renewed at two thirds of its life. Where Vault grants less
// than was asked, or the gateway has another login, or a secret without a lease has changed,
// it makes a new set, and only then supersedes the old one. Requests under way stay on that
// until shortly before its end; then they are cut with [ErrEnded].
//
// When the principal loses its access, [Store.OnEnd] ends its sets: requests are cut, and the
// children are revoked as soon as nobody holds them, half a second later at most. What Vault
// was being asked for at that moment is revoked when the answer comes, and never used. A
// request that finds no holding begins one and then looks whether its own context is done:
// since access ends by that context first, either the end finds the holding, or the request
// finds the end.
//
// What cannot be had is an [Error]: the request is refused, and the server gets nothing.
// There is no other value to fall back to.
package credentials
