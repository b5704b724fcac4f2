package access

import (
	"strings"

	"vault-plugin-secrets-mcp/backend/token"
)

// maxServerName is the length of the longest name that can be registered.
const maxServerName = 64

// auditedServer is the server's name for the audit log. A path that names no
// registered server may hold anything, also a token that was put in the wrong
// place; so only what could be a name is written down.
func (r *Request) auditedServer() string {
	switch {
	case r.Server != nil:
		return r.Server.Name
	case len(r.serverName) > maxServerName,
		strings.HasPrefix(r.serverName, token.Prefix), strings.HasPrefix(r.serverName, token.SealedPrefix),
		strings.ContainsFunc(r.serverName, notInServerName):
		return ""
	}
	return r.serverName
}

func notInServerName(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return c != '-' && c != '_'
}
