// Package engine tests the engine in a real Vault, without gateways: permissions, bad input,
// policies, and the change feed.
package engine
