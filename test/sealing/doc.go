// Package sealing uses tokens that are sealed with a key of KMS, in the engine and through
// gateways.
package sealing
