// Package apply runs `mcp-bootstrap apply` against a real Vault: an empty one, one with a
// broker, with mistakes in the files, and with Vault lost in the middle.
package apply
