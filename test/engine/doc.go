// Package engine uses the engine in a real Vault, without gateways: who may do what, bad
// input, policies, and the feed of changes.
package engine
