// Package apply runs `mcp-bootstrap apply` against a real Vault: from an empty one, over
// a broker that stands, with mistakes in the files, and with Vault lost in the middle.
package apply
