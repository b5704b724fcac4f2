package stage

import (
	"net/http"

	"vault-plugin-secrets-mcp/test/harness"
)

// Asks are the kinds of requests to a server.
func (s *Stage) Asks(server string, header http.Header) map[string]func() harness.Response {
	url, tool := s.URL(server), s.At.Tool(server, "add")
	send := func(method, body string, more http.Header) func() harness.Response {
		return func() harness.Response {
			all := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
			for _, h := range []http.Header{more, header} {
				for name, values := range h {
					all[name] = values
				}
			}
			return s.Do(method, url, "", all, body)
		}
	}
	stateless := http.Header{"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {tool}}
	session := http.Header{"Mcp-Session-Id": {"some-session"}, "Mcp-Protocol-Version": {harness.SessionEra}}
	return map[string]func() harness.Response{
		"calls a tool in one request": send(http.MethodPost, harness.CallBody(tool, `{"a":1,"b":2}`), stateless),
		"opens a session": send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+harness.SessionEra+
			`","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`, nil),
		"calls a tool in a session": send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"a":1,"b":2}}}`, session),
		"opens a stream":            send(http.MethodGet, "", session),
		"ends a session":            send(http.MethodDelete, "", session),
		"sends a broken message":    send(http.MethodPost, `[`, nil),
	}
}
