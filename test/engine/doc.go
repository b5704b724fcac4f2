// Package engine tests the engine in a real Vault, without gateways: permissions, policies,
// warnings, and the change feed.
package engine
