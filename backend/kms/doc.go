// Package kms is the only package that speaks to AWS KMS. The engine uses it to create data
// keys and to decrypt tokens that were encrypted elsewhere, and the gateway to unwrap data
// keys.
//
// # Refused or not answered
//
// A person who disables a key in KMS wants to stop everything that is sealed under it. A
// network that is down has no such meaning. So an [Error] says which of the two happened:
// KMS refused, or KMS did not answer. In the first case a [Keyring] drops the data key at
// once; in the second it uses the key for a bounded time.
//
// # Encryption contexts
//
// All that KMS encrypts for this project is bound to a context. KMS authenticates the
// context and writes it to CloudTrail, and IAM policies can require it:
//
//	data keys                 mcp-mount, mcp-audience
//	tokens from elsewhere     mcp-mount, mcp-client
//
// The two have different names in them, so a ciphertext for one use does not decrypt for
// the other.
//
// # Secrets
//
// Data keys are held in memory only. No error of this package holds key material,
// a token or a credential.
package kms
