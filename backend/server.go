package backend

import (
	"maps"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
)

// serverEntry is one registered MCP server.
type serverEntry struct {
	// ID is the registration's: it changes when the server is pointed elsewhere,
	// so that sessions and streams of the old one end.
	ID string `json:"id"`

	check.Server
}

// samePlace reports whether e and o lead to the same server. Credentials in
// headers may differ: changing those ends no session.
func (e *serverEntry) samePlace(o *serverEntry) bool {
	return e.Transport == o.Transport && e.URL == o.URL && e.Command == o.Command && e.Shared == o.Shared &&
		slices.Equal(e.Args, o.Args) && maps.Equal(e.Env, o.Env)
}

// splitQuery returns the URL without its query, whose values are write-only, and
// the names of the query's parameters.
func splitQuery(raw string) (bare string, names []string) {
	bare, query, _ := strings.Cut(raw, "?")
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); name != "" {
			names = append(names, name)
		}
	}
	return bare, names
}
