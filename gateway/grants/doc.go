// Package grants has the gateway's knowledge from Vault. It asks Vault about tokens, stores
// the answers as grants, and ends them when Vault's change feed says so. It also has the
// registry of servers and the session keys. [vaultclient] makes the requests.
//
// # How old an answer may be
//
// The engine numbers its changes, and the gateway long-polls it for them: this is the
// change feed. Every answer to a lookup carries the number of the last change that it
// includes. One lock orders "apply changes" and "publish a lookup", so there are only two
// cases. A change that is applied later finds the grant and ends it. A change that was
// applied earlier is compared with the answer: if the answer is older, and the change
// concerns its token, its client or everything, then the gateway drops the answer and asks
// again, for all requests that wait for it.
//
// While the feed answers, each of its answers confirms every grant that its changes do not
// concern, as of the time when the feed's request was sent. While the feed does not answer,
// grants grow old. No grant is used for longer than max_stale after the sending of the
// request that last confirmed it. If Vault does not answer by then, no request passes.
//
// # Requests in flight
//
// A request holds its grant until it ends ([Broker.Hold]). A grant that ends, or changes so
// that it no longer admits the request, cancels the request's context.
//
// # Speed
//
// A token with a known grant costs one hash, one read of a sharded map and one look at the
// clock. Tokens share no lock. Only the requests that carry a token have it in memory.
//
// # Memory
//
// A token takes 0.6 KB. Many clients are set up alike, so grants share the part that they
// have in common, their entitlements.
package grants
