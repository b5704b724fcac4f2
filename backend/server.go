package backend

import (
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vault-plugin-secrets-mcp/backend/policy"
)

// Transports of MCP servers.
const (
	transportHTTP  = "http"  // streamable HTTP
	transportSSE   = "sse"   // HTTP+SSE of the revision 2024-11-05
	transportStdio = "stdio" // a child process of the gateway
)

// serverEntry is one registered MCP server.
type serverEntry struct {
	// ID is the registration's: it changes when the server is pointed elsewhere,
	// so that sessions and streams of the old one end.
	ID string `json:"id"`

	Transport   string            `json:"transport"`
	URL         string            `json:"url,omitempty"`
	Command     string            `json:"command,omitempty"`
	Args        []string          `json:"args,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Shared      bool              `json:"shared,omitempty"`
	Description string            `json:"description,omitempty"`
}

// check refuses a server that no gateway could reach, or should.
func (e *serverEntry) check() error {
	switch e.Transport {
	case transportHTTP, transportSSE:
		return e.checkRemote()
	case transportStdio:
		return e.checkStdio()
	case "":
		return userErrorf("field transport is missing: use http, sse or stdio")
	default:
		return userErrorf("field transport: %q is none of http, sse and stdio", e.Transport)
	}
}

func (e *serverEntry) checkRemote() error {
	for field, given := range map[string]bool{
		"command": e.Command != "", "args": len(e.Args) > 0, "env": len(e.Env) > 0, "shared": e.Shared,
	} {
		if given {
			return userErrorf("field %s: a server of transport %s is not started by the gateway, and takes url and headers only", field, e.Transport)
		}
	}
	if e.URL == "" {
		return userErrorf("field url is missing: a server of transport %s needs one", e.Transport)
	}
	if err := checkUpstreamURL(e.URL); err != nil {
		return err
	}
	return checkUpstreamHeaders(e.Headers)
}

// checkUpstreamURL accepts only the one spelling of a URL, so that what a policy
// was compared with is what the gateway dials.
func checkUpstreamURL(raw string) error {
	if strings.Contains(raw, "${") {
		return userErrorf("field url: ${…} is not expanded here; write the value out")
	}
	if _, err := policy.Canonical(raw); err != nil {
		return userErrorf("field url: %s", err)
	}
	return nil
}

// refusedHeaders are those that belong to the connection or to MCP itself, not to
// the upstream's credentials.
var refusedHeaders = []string{
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
	"Keep-Alive", "Last-Event-Id", "Origin", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func checkUpstreamHeaders(headers map[string]string) error {
	seen := map[string]bool{}
	for name, value := range headers {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return userErrorf("field headers: %q is no header name", name)
		case slices.Contains(refusedHeaders, canonical) || strings.HasPrefix(canonical, "Mcp-"):
			return userErrorf("field headers: %s belongs to the connection or to MCP itself and cannot be set here", canonical)
		case !httpguts.ValidHeaderFieldValue(value):
			return userErrorf("field headers: the value of %s has a character that no header may carry", canonical)
		case seen[canonical]:
			return userErrorf("field headers: %s is given twice", canonical)
		}
		seen[canonical] = true
	}
	return nil
}

func (e *serverEntry) checkStdio() error {
	switch {
	case e.URL != "":
		return userErrorf("field url: a server of transport stdio is a command; use command, args and env")
	case len(e.Headers) > 0:
		return userErrorf("field headers: a server of transport stdio has none; use env for its credentials")
	case e.Command == "":
		return userErrorf("field command is missing: a server of transport stdio needs one")
	case strings.Contains(e.Command, "/") && !filepath.IsAbs(e.Command):
		return userErrorf("field command: %q is relative; give an absolute path, or a bare name that the gateway's file allows", e.Command)
	}
	for _, s := range append([]string{e.Command}, e.Args...) {
		if strings.ContainsRune(s, 0) {
			return userErrorf("fields command and args: a NUL character cannot be passed to a process")
		}
		if strings.Contains(s, "${") {
			return userErrorf("fields command and args: ${…} is not expanded here; write the value out, or use env")
		}
	}
	for name, value := range e.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return userErrorf("field env: %q is no name of an environment variable, or its value has a NUL character", name)
		}
	}
	return nil
}

// samePlace tells whether e and o lead to the same server. Credentials in
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
