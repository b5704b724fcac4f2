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
)

// URIPrefix is the prefix of the URIs of the server's resources. It has only literals of
// RFC 6570. So a template with the prefix expands to the prefix and the expansion of the
// template.
func URIPrefix(server string) string { return scheme + server + "/" }

// JoinURI names the server's resource, or its URI template, among those of all servers.
// uri must not be empty.
func JoinURI(server, uri string) string { return scheme + server + "/" + uri }

// SplitURI takes apart a URI of [JoinURI]. It also takes apart MCPJungle's form, which
// its users may have saved. ok is false for other texts.
func SplitURI(joined string) (server, uri string, ok bool) {
	if rest, found := strings.CutPrefix(joined, jungleScheme); found {
		return splitJungle(rest)
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
