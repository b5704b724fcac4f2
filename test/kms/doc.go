// Package kms is a test double of AWS KMS. It speaks the wire protocol of the real service
// (JSON 1.1 over HTTP, requests signed with SigV4) well enough for the official clients,
// and fails on request. It is ours, not AWS's: it shows that this project uses the
// protocol consistently, and how the project behaves when KMS fails. If the environment
// names a key of the real service, tests without faults run against that, too.
//
//	server, err := kms.Start(kms.Options{})
//	key := server.CreateKey("alias/mcp")
//	…                                          // endpoint: server.URL()
//	server.Fail(kms.Throttle("Decrypt"))
//
// Real parts: AES-256-GCM with the encryption context as authenticated data; the
// verification of each request's signature with the SDK's own signer, clock skew
// included; identities with IAM policies, with the operators that policies for KMS use;
// AWS's error codes and statuses.
//
// Simplified parts: there is one account and one region; keys are symmetric and exist in
// memory only. Grants, key policies, imported key material and asymmetric keys are
// missing.
package kms
