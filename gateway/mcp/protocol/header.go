package protocol

import (
	"net/http"
	"strings"
)

// Headers of MCP, in net/http's canonical form, since the gateway reads and writes the
// maps directly.
const (
	HeaderSession = "Mcp-Session-Id"
	HeaderVersion = "Mcp-Protocol-Version"
	HeaderMethod  = "Mcp-Method"
	HeaderName    = "Mcp-Name"

	// HeaderPrefix begins every header of MCP, in later versions too.
	HeaderPrefix = "Mcp-"
)

// Headers of HTTP, in the same form.
const (
	HeaderAccept          = "Accept"
	HeaderAcceptEncoding  = "Accept-Encoding"
	HeaderContentEncoding = "Content-Encoding"
	HeaderContentLength   = "Content-Length"
	HeaderContentType     = "Content-Type"
	HeaderLastEventID     = "Last-Event-Id"
	HeaderRetryAfter      = "Retry-After"
	HeaderUserAgent       = "User-Agent"
)

// Media types of messages.
const (
	MediaJSON        = "application/json"
	MediaEventStream = "text/event-stream"
)

// First returns the first value of a header in its canonical form.
func First(h http.Header, key string) string {
	if values := h[key]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// IsHeader reports whether the header, in its canonical form, is one of MCP.
func IsHeader(key string) bool { return strings.HasPrefix(key, HeaderPrefix) }
