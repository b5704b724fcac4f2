// Package commands runs the commands of mcp-bootstrap that examine, export and explain:
// doctor, export, and what every command says when something is wrong.
package commands
