// Package agent runs a Vault Agent that gets clients' tokens, with the shipped
// configurations.
package agent
