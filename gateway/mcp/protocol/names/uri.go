package names

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

const (
	scheme = "mcp://"

	// MCPJungle names a resource by its server and the base64 of its URI.
	jungleScheme = "mcpj://res/"

	// UIScheme begins the URIs of the pages of MCP Apps. Hosts show no page of another
	// scheme, so these URIs keep it: ui://page becomes ui://server/page.
	//
	// https://github.com/modelcontextprotocol/ext-apps/blob/main/specification/2026-01-26/apps.mdx
	UIScheme = "ui://"
)

// URIPrefix is the prefix of the URIs of the server's resources, but for pages of apps. It
// has only literals of RFC 6570. So a template with the prefix expands to the prefix and the
// expansion of the template.
func URIPrefix(server string) string { return scheme + server + "/" }

// UIPrefix comes behind the scheme in the URIs of the server's pages of apps. It has only
// literals, too.
func UIPrefix(server string) string { return server + "/" }

// IsUI reports whether the URI on its server is that of a page of an app.
func IsUI(uri string) bool { return len(uri) > len(UIScheme) && uri[:len(UIScheme)] == UIScheme }

// JoinURI names the server's resource, or its URI template, among those of all servers.
// uri must not be empty.
func JoinURI(server, uri string) string {
	if IsUI(uri) {
		return UIScheme + UIPrefix(server) + uri[len(UIScheme):]
	}
	return URIPrefix(server) + uri
}

// SplitURI takes apart a URI of [JoinURI], and one to which a template of JoinURI expands:
// mcp://server/{+uri} may become mcp://server/ui://page. It also takes apart MCPJungle's
// form, which its users may have saved. ok is false for other texts.
func SplitURI(joined string) (server, uri string, ok bool) {
	if rest, found := strings.CutPrefix(joined, jungleScheme); found {
		return splitJungle(rest)
	}
	if rest, found := strings.CutPrefix(joined, UIScheme); found {
		server, page, _ := strings.Cut(rest, "/")
		if page == "" || !isServer(server) {
			return "", "", false
		}
		return server, UIScheme + page, true
	}
	rest, found := strings.CutPrefix(joined, scheme)
	if !found {
		return "", "", false
	}
	server, uri, _ = strings.Cut(rest, "/")
	if uri == "" || !isServer(server) {
		return "", "", false
	}
	return server, uri, true
}

// urlToStd maps the URL-safe alphabet of base64 to the standard one.
var urlToStd = strings.NewReplacer("-", "+", "_", "/")

// splitJungle takes apart server/BASE64, without padding. MCPJungle has used both
// alphabets.
func splitJungle(rest string) (server, uri string, ok bool) {
	server, encoded, _ := strings.Cut(rest, "/")
	if !isServer(server) {
		return "", "", false
	}
	decoded, err := base64.RawStdEncoding.Strict().DecodeString(urlToStd.Replace(encoded))
	if err != nil || len(decoded) == 0 || !utf8.Valid(decoded) {
		return "", "", false
	}
	return server, string(decoded), true
}
