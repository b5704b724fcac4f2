package mcp

import (
	"net/http"
	"net/textproto"
	"strings"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

var (
	valueIdentity = []string{"identity"}
	valueJSON     = []string{protocol.MediaJSON}
)

// requestHeader copies those of the client's headers that the server gets.
// The values are shared with in, and never changed. The session id is not among
// them: what the client holds means nothing to the server.
//
// An event id means something within a session. Without one, the server could
// not tell that it is another client that resumes a stream: to it, all of them
// are the gateway.
func requestHeader(out, in http.Header, inSession bool) {
	for key, values := range in {
		if forwarded(key) {
			out[key] = values
		}
	}
	if !inSession {
		delete(out, protocol.HeaderLastEventID)
	}
	// An encoded answer could not be read where lists are filtered; and without
	// the header a server may choose any encoding.
	out[protocol.HeaderAcceptEncoding] = valueIdentity
}

func forwarded(key string) bool {
	switch key {
	case protocol.HeaderSession:
		return false
	case protocol.HeaderAccept, protocol.HeaderLastEventID, protocol.HeaderUserAgent, "Traceparent", "Tracestate":
		return true
	}
	return protocol.IsHeader(key) && access.PlainHeader(key)
}

// copyResponseHeader copies those of the server's headers that the client gets.
func copyResponseHeader(out, in http.Header) {
	connection := in["Connection"]
	for key, values := range in {
		if !withheld(key) && !named(connection, key) {
			out[key] = values
		}
	}
}

// withheld reports whether a header of the server's answer is none of the
// client's business: it belongs to the connection; it speaks for the gateway's
// own origin, whose cookies, security policy and credentials are not the
// server's; or it describes what stands behind the gateway.
func withheld(key string) bool {
	switch key {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	case "Set-Cookie", "Set-Cookie2", "Www-Authenticate", "Authentication-Info", "Proxy-Authentication-Info",
		"Alt-Svc", "Clear-Site-Data", "Location", "Nel", "Public-Key-Pins", "Public-Key-Pins-Report-Only",
		"Refresh", "Report-To", "Reporting-Endpoints", "Service-Worker-Allowed", "Strict-Transport-Security":
		return true
	case "Server", "Via", "X-Powered-By":
		return true
	case protocol.HeaderSession:
		return true // set by the gateway
	}
	return strings.HasPrefix(key, "Access-Control-")
}

// named reports whether the Connection header names the key as one that ends
// with the connection.
func named(connection []string, key string) bool {
	for _, value := range connection {
		for token := range strings.SplitSeq(value, ",") {
			if textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(token)) == key {
				return true
			}
		}
	}
	return false
}

// mediaType returns a Content-Type without its parameters, in lower case.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// isJSON reports whether a request's Content-Type says JSON in UTF-8. A body under
// another charset, such as UTF-7, would be other text to its sender than to the
// gateway. Other parameters mean nothing for JSON (RFC 8259, section 11), and are
// not passed on.
func isJSON(contentType string) bool {
	if contentType == protocol.MediaJSON {
		return true
	}
	media, parameters, _ := strings.Cut(contentType, ";")
	if !strings.EqualFold(strings.TrimSpace(media), protocol.MediaJSON) {
		return false
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "charset") && !isUTF8(value) {
			return false
		}
	}
	return true
}

// isUTF8 reports whether a charset is UTF-8, in one of the spellings that clients
// have for it.
func isUTF8(charset string) bool {
	charset = strings.Trim(strings.TrimSpace(charset), `"'`)
	return strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}
