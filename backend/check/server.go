package check

import (
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
)

// Transports of MCP servers.
const (
	TransportHTTP  = "http"  // streamable HTTP
	TransportSSE   = "sse"   // HTTP+SSE of the revision 2024-11-05
	TransportStdio = "stdio" // a child process of the gateway
)

// The bounds of a registration, in bytes unless another unit is named. Every gateway
// keeps all registrations in memory.
const (
	maxDescription = 4096
	maxCommand     = 4096
	maxArgs        = 256 // in number
	maxArgsSize    = 64 << 10
	maxPairs       = 128 // in number: headers, and variables of env
	maxPairName    = 256
	maxHeaderValue = 16 << 10 // servers refuse more, as a rule
	maxEnvValue    = 64 << 10
	maxPairsSize   = 128 << 10
)

// Transport is a transport by the name that it has here. Others call streamable
// HTTP by its whole name.
func Transport(name string) string {
	switch strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(name)) {
	case "streamablehttp", "httpstream", "streamhttp":
		return TransportHTTP
	}
	return name
}

// Server has the fields that a caller may set on a registered MCP server.
type Server struct {
	Transport   string            `json:"transport"`
	URL         string            `json:"url,omitempty"`
	Command     string            `json:"command,omitempty"`
	Args        []string          `json:"args,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Shared      bool              `json:"shared,omitempty"`
	Description string            `json:"description,omitempty"`

	// Disabled: no client reaches the server, and nothing of its registration is lost.
	Disabled bool `json:"disabled,omitempty"`

	// Values of Headers, Env and Files are templates (credential.Template), for the fields of
	// Credentials, for a token with VaultPolicies and for the paths of Files.
	Credentials   map[string]credential.Spec `json:"credentials,omitempty"`
	Files         map[string]string          `json:"files,omitempty"` // by name, in the home of a child
	VaultPolicies []string                   `json:"vault_policies,omitempty"`

	// Pin is the effect of the approvals of the server's definitions, "" for off; PinKinds are the
	// kinds that it is about, none for all.
	Pin      pin.Mode   `json:"pin,omitempty"`
	PinKinds []pin.Kind `json:"pin_kinds,omitempty"`
}

// PinnedKinds returns the kinds of definitions that Pin is about.
func (s *Server) PinnedKinds() []pin.Kind {
	if len(s.PinKinds) == 0 {
		return pin.Kinds()
	}
	return s.PinKinds
}

// Check refuses a server that no gateway could reach, or should.
func (s *Server) Check() Problems {
	var p Problems
	switch s.Transport {
	case TransportHTTP, TransportSSE:
		s.checkRemote(&p)
	case TransportStdio:
		s.checkStdio(&p)
	case "":
		p.add("transport", "field transport is missing: use http, sse or stdio")
	default:
		p.add("transport", "field transport: %q is not a transport: use http, sse or stdio", s.Transport)
	}
	if len(s.Description) > maxDescription {
		p.add("description", "field description: it is %d bytes long: at most %d are allowed", len(s.Description), maxDescription)
	}
	s.checkCredentials(&p)
	s.checkPins(&p)
	return p
}

func (s *Server) checkPins(p *Problems) {
	_, err := pin.ParseMode(string(s.Pin))
	p.wrap("pin", err)
	for _, kind := range s.PinKinds {
		_, err := pin.ParseKind(string(kind))
		p.wrap("pin_kinds", err)
	}
}

func (s *Server) checkRemote(p *Problems) {
	for _, f := range []struct {
		field string
		given bool
	}{
		{"command", s.Command != ""}, {"args", len(s.Args) > 0}, {"env", len(s.Env) > 0}, {"shared", s.Shared},
	} {
		if f.given {
			p.add(f.field, "field %s: a server of transport %s is not started by the gateway, and takes url and headers only", f.field, s.Transport)
		}
	}
	if s.URL == "" {
		p.add("url", "field url is missing: a server of transport %s needs one", s.Transport)
	} else {
		checkUpstreamURL(p, s.URL)
	}
	checkUpstreamHeaders(p, s.Headers)
}

// checkUpstreamURL accepts only the one spelling of a URL, so that the gateway dials
// the very URL that the policy was compared with.
func checkUpstreamURL(p *Problems, raw string) {
	if strings.Contains(raw, "${") {
		p.add("url", "field url: %s", notExpanded)
		return
	}
	if placeholderStart.MatchString(raw) {
		p.add("url", noPlaceholder, "url")
		return
	}
	_, err := policy.Canonical(raw)
	p.wrap("url", err)
}

// reservedHeaders are those that belong to the connection or to MCP itself, not to
// the upstream's credentials.
var reservedHeaders = []string{
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
	"Keep-Alive", "Last-Event-Id", "Origin", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// IsReservedHeader reports whether a registration may not set the header. The engine
// refuses such a registration, and the gateway leaves the header out. An underscore
// counts as a hyphen: a server behind CGI takes the one for the other.
func IsReservedHeader(name string) bool {
	key := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	return slices.Contains(reservedHeaders, key) || strings.HasPrefix(key, "Mcp-")
}

func checkUpstreamHeaders(p *Problems, headers map[string]string) {
	const field = "headers"
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			p.add(field, "field headers: %q is not a valid header name", name)
		case IsReservedHeader(name):
			p.add(field, "field headers: %s belongs to the connection or to MCP itself and cannot be set here", canonical)
		case !httpguts.ValidHeaderFieldValue(headers[name]):
			p.add(field, "field headers: the value of %s has a character that no header may carry", canonical)
		case seen[canonical]:
			p.add(field, "field headers: %s is given twice", canonical)
		}
		seen[canonical] = true
	}
	checkPairs(p, field, headers, maxHeaderValue)
}

// notExpanded is the message about ${NAME}, which the files of many programs have in
// the place of a secret. The gateway would send it literally.
const notExpanded = "${…} is not expanded here; write the value out, or let mcp-bootstrap apply take it from the environment"

// checkPairs refuses pairs beyond the bounds, and values with variables, which the
// gateway does not expand.
func checkPairs(p *Problems, field string, pairs map[string]string, maxValue int) {
	if len(pairs) > maxPairs {
		p.add(field, "field %s: there are %d: at most %d are allowed", field, len(pairs), maxPairs)
		return
	}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		value := pairs[name]
		size += len(name) + len(value)
		switch {
		case len(name) > maxPairName:
			p.add(field, "field %s: a name is %d bytes long: at most %d are allowed", field, len(name), maxPairName)
		case len(value) > maxValue:
			p.add(field, "field %s: the value of %q is %d bytes long: at most %d are allowed", field, name, len(value), maxValue)
		case strings.Contains(name, "${"):
			p.add(field, "field %s: in a name, %s", field, notExpanded)
		case strings.Contains(value, "${"):
			p.add(field, "field %s: in the value of %q, %s", field, name, notExpanded)
		}
	}
	if size > maxPairsSize {
		p.add(field, "field %s: names and values are %d bytes long: at most %d are allowed", field, size, maxPairsSize)
	}
}

func (s *Server) checkStdio(p *Problems) {
	if s.URL != "" {
		p.add("url", "field url: a server of transport stdio is a command; use command, args and env")
	}
	if len(s.Headers) > 0 {
		p.add("headers", "field headers: a server of transport stdio has none; use env for its credentials")
	}
	switch {
	case s.Command == "":
		p.add("command", "field command is missing: a server of transport stdio needs one")
	case strings.Contains(s.Command, "/") && !filepath.IsAbs(s.Command):
		p.add("command", "field command: %q is relative; give an absolute path, or a bare name that the gateway's file allows", s.Command)
	}
	checkWords(p, "command", s.Command)
	checkWords(p, "args", s.Args...)
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(s.Env[name], 0) {
			p.add("env", "field env: %q is not a valid name of an environment variable, or its value has a NUL character", name)
		}
	}
	checkPairs(p, "env", s.Env, maxEnvValue)
	if len(s.Command) > maxCommand {
		p.add("command", "field command: it is %d bytes long: at most %d are allowed", len(s.Command), maxCommand)
	}
	size := 0
	for _, arg := range s.Args {
		size += len(arg)
	}
	if len(s.Args) > maxArgs || size > maxArgsSize {
		p.add("args", "field args: there are %d of %d bytes: at most %d of %d bytes are allowed", len(s.Args), size, maxArgs, maxArgsSize)
	}
}

func checkWords(p *Problems, field string, words ...string) {
	for _, word := range words {
		if strings.ContainsRune(word, 0) {
			p.add(field, "field %s: a NUL character cannot be passed to a process", field)
		}
		if strings.Contains(word, "${") {
			p.add(field, "field %s: %s", field, notExpanded)
		}
	}
}
