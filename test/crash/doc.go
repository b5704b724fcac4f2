// Package crash holds the tests that kill Vault and the engine in the middle of
// their work.
package crash
