// Package dev runs `mcp-bootstrap dev`, the commands that it prints, and the pages of docs/
// that begin with it.
package dev
