package dev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files with secrets in the folder. Only their owner can read them. They are removed at
// the end, when their secrets are of no use any more.
const (
	envFile      = "env"       // to be sourced by a shell
	headersFile  = "headers"   // of one MCP call, for curl
	roleIDFile   = "role_id"   // the gateway's login
	secretIDFile = "secret_id" // its other half
)

// Files without secrets.
const (
	bodyFile        = "add.json"        // the body of the call that headersFile goes with
	callHeadersFile = "call-headers"    // headersFile without the token
	connectFile     = "connect.json"    // the first request of a client that connects
	connectOnlyFile = "connect-headers" // its headers, with the token: a secret

	// With Options.Upstream: a call of whoami, likewise.
	whoamiBodyFile        = "whoami.json"
	whoamiHeadersFile     = "whoami-headers" // with the token: a secret
	whoamiCallHeadersFile = "whoami-call-headers"
)

// write writes a file of the folder for its owner alone.
func (s *system) write(name, content string) error {
	path := s.path(name)
	// An older file would keep its own permissions.
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("cannot replace the file: %w", err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("cannot write the file: %w", err)
	}
	return nil
}

func (s *system) removeSecrets() {
	for _, name := range []string{envFile, headersFile, connectOnlyFile, whoamiHeadersFile, roleIDFile, secretIDFile, kmsFile} {
		_ = os.Remove(s.path(name))
	}
	_ = os.RemoveAll(s.path(agentDir))
}

// writeClientFiles writes the files for the commands of the summary.
func (s *system) writeClientFiles() error {
	const mediaTypes = "Content-Type: application/json\nAccept: application/json, text/event-stream\n"
	authorization := "Authorization: Bearer " + s.clientToken + "\n"
	files := map[string]string{
		envFile: "export VAULT_ADDR='" + s.vaultURL() + "'\n" +
			"export VAULT_TOKEN='" + s.rootToken + "'\n" +
			"export MCP_GATEWAY_URL='" + s.gatewayURL() + "'\n" +
			"export MCP_GATEWAY_ADMIN_URL='http://" + s.AdminAddress + "'\n" +
			"export MCP_TOKEN='" + s.clientToken + "'\n" +
			s.onPath(),
		headersFile:     authorization + mediaTypes + callHeaders(addTool),
		callHeadersFile: mediaTypes + callHeaders(addTool),
		connectOnlyFile: authorization + mediaTypes,
		connectFile: `{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
  "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "curl", "version": "1"}}}
`,
		bodyFile: callBody(addTool, `{"a": 2, "b": 3}`),
	}
	if s.Upstream {
		files[whoamiHeadersFile] = authorization + mediaTypes + callHeaders(whoamiTool)
		files[whoamiCallHeadersFile] = mediaTypes + callHeaders(whoamiTool)
		files[whoamiBodyFile] = callBody(whoamiTool, `{}`)
	}
	for name, content := range files {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	return nil
}

// Tools that are called: the first by its name on /mcp, the second at its server's own path.
const (
	addTool    = calculator + "__add"
	whoamiTool = "whoami"
)

// callHeaders are the headers that describe a call.
func callHeaders(tool string) string {
	return "MCP-Protocol-Version: 2026-07-28\nMcp-Method: tools/call\nMcp-Name: " + tool + "\n"
}

func callBody(tool, arguments string) string {
	return `{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
  "name": "` + tool + `", "arguments": ` + arguments + `, "_meta": {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "curl", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {}}}}
`
}

// onPath puts the programs that run here on the PATH of a shell, behind its own: vault and
// mcp-bootstrap. It looks at no PATH: that of the terminal of "make dev" is not that of others.
func (s *system) onPath() string {
	line := "export PATH=\"$PATH\""
	for _, program := range []struct{ name, path string }{{vaultName, s.Vault}, {"mcp-bootstrap", s.Self}} {
		if filepath.Base(program.path) == program.name {
			line += ":" + quoted(filepath.Dir(program.path))
		}
	}
	return line + "\n"
}

func (s *system) gatewayURL() string { return "http://" + s.GatewayAddress }

// shown is a path as a user in the working folder would write it.
func shown(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(relative, "..") {
			path = relative
		}
	}
	if strings.ContainsAny(path, " '\"$\\&;()<>|*?[]#~`!{}") {
		path = quoted(path)
	}
	return path
}

// quoted is a text as one word for a shell.
func quoted(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
