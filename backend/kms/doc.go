// Package kms is the one place that speaks to AWS KMS. The engine uses it to make
// data keys and to decrypt tokens that were encrypted elsewhere, the gateway to
// unwrap data keys.
//
// # What an answer means
//
// Whoever disables a key in KMS means that nothing sealed under it works any
// more; a network that is down means nothing. So an [Error] says which of the two
// it is: refused, or not answered. A [Keyring] drops a data key at once in the
// first case, and goes on with it for a bounded time in the second.
//
// # Encryption contexts
//
// Everything that this project has KMS encrypt is bound to a context, which KMS
// authenticates, writes to CloudTrail and lets IAM policies require:
//
//	data keys                 mcp-mount, mcp-audience
//	tokens from elsewhere     mcp-mount, mcp-client
//
// The two have different names in them, so nothing that was encrypted for the one
// use can be passed off as the other.
//
// # Secrets
//
// Data keys are held in memory only. No error of this package holds key material,
// a token or a credential.
package kms
