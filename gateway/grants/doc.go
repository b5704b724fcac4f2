// Package grants is what Vault said, as the gateway knows it: it asks about tokens,
// remembers the answers as grants, and takes them back when Vault says so. It holds
// the registry of servers and the session keys, too. [vaultclient] makes the requests.
//
// # How old an answer may be
//
// The engine numbers its changes. The gateway long-polls it for them: the feed. Every
// answer to a lookup says how many changes it knew of. One lock orders "apply changes"
// and "publish a lookup", so there are two cases only. A change that is applied later
// finds the grant and ends it. A change that was applied earlier is compared with the
// answer: if the answer is older and the change concerns its token, its client or
// everything, the answer is thrown away and asked for again, for everybody who waits
// for it.
//
// While the feed answers, each answer confirms all grants that it left alone,
// as of the sending of its request. While it does not, grants grow old, and
// none is used longer than max_stale after the sending of the request that last
// confirmed it. When Vault cannot be asked by then, nobody passes.
//
// # Requests in flight
//
// A request holds its grant for as long as it lasts ([Broker.Hold]). A grant
// that ends, or changes so that it no longer admits the request, cancels the
// request's context.
//
// # Speed
//
// A token whose grant is known costs one hash, one read of a sharded map and
// one look at the clock; no lock is shared between tokens. The token itself is
// kept nowhere but in the requests that bear it.
//
// # Memory
//
// A token takes 0.6 KB. Many clients are set up alike, so grants share the part that they
// have in common, their entitlements.
package grants
