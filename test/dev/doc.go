// Package dev runs `mcp-bootstrap dev`, what it prints, and the pages of docs/ that go on
// from there.
package dev
