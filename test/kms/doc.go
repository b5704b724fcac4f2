// Package kms is a test double of AWS KMS: it speaks the wire protocol of the
// real service (JSON 1.1 over HTTP, requests signed with SigV4) well enough for
// the official clients, and can be told to fail. It is ours, not AWS's: what it
// shows is that this project's use of the protocol is consistent, and how it
// behaves when KMS does not. Tests that should hold against the real service run
// against it too where the environment names a key of it.
//
//	server, err := kms.Start(kms.Options{})
//	key := server.CreateKey("alias/mcp")
//	…                                          // endpoint: server.URL()
//	server.Fail(kms.Throttle("Decrypt"))
//
// What is real: AES-256-GCM with the encryption context as authenticated data;
// the verification of each request's signature with the SDK's own signer, its
// clock skew included; identities with IAM policies, of which the operators that
// policies for KMS use are understood; AWS's error codes and statuses.
//
// What is not: there is one account and one region, keys are symmetric, live in
// memory and never leave it, and grants, key policies, key material of one's own
// and everything asymmetric are missing.
package kms
