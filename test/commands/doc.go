// Package commands runs the commands of mcp-bootstrap that examine, export and explain:
// doctor, export, and the messages of every command about problems. It types at shells that
// complete commands, too, and reads the manual.
package commands
