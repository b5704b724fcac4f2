// Package agent holds the configurations for Vault Agent that come with the engine,
// as files to copy. docs/agent.md says which one to use.
package agent

import "embed"

// The files that keep a token in a file, and hand it to Claude Code.
const (
	TokenFileConfig   = "token-file.hcl" //nolint:gosec // it is the file's name
	TokenFileTemplate = "token.ctmpl"
	HeadersHelper     = "mcp-headers.sh"
)

// Where the configurations expect their own files, and write to.
const (
	ConfigDir = "/etc/mcp-client"
	RunDir    = "/run/mcp-client"
)

// Files are the files.
//
//go:embed *.hcl *.ctmpl *.sh
var Files embed.FS
