// Package agent has a Vault Agent get clients their tokens, with the configurations as
// they are shipped.
package agent
