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

// URIPrefix is what stands before the URIs of the server's resources. It holds
// nothing but literals of RFC 6570: the expansion of a template with the prefix
// is the prefix and the expansion of the template.
func URIPrefix(server string) string { return scheme + server + "/" }

// JoinURI names the server's resource among those of all servers, or its URI
// template among those of all servers. uri must not be empty.
func JoinURI(server, uri string) string { return scheme + server + "/" + uri }

// SplitURI takes apart what [JoinURI] made, and also what MCPJungle would have
// made of the same resource, which may stand in what its users have saved. ok
// is false for anything else.
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

// urlToStd maps the alphabet of base64 that is safe in URLs to the other one.
var urlToStd = strings.NewReplacer("-", "+", "_", "/")

// splitJungle takes apart server/BASE64, without padding. MCPJungle has written
// both alphabets.
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
