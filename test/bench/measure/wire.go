package measure

import (
	"fmt"
	"strings"

	"vault-plugin-secrets-mcp/test/harness"
)

// Tool is the tool of all calls of the benchmarks.
const Tool = "echo"

// Place is the address and path of a request, and the tool that it calls.
type Place struct {
	Address string // host:port
	Path    string
	Tool    string
}

// At is one registered server of a gateway.
func At(g *harness.Gateway, server string) Place {
	return Place{Address: Host(g), Path: "/servers/" + server + "/mcp", Tool: Tool}
}

// Call is a call of a tool in its form on the wire, in an era, with an argument of so many
// bytes. It leaves out an empty session and an empty token.
func Call(at Place, era, token, session string, text int) []byte {
	arguments := `{"text":"` + strings.Repeat("x", text) + `"}`
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + at.Tool + `","arguments":` + arguments + `}}`
	header := "Mcp-Protocol-Version: " + era + "\r\n"
	if era == harness.StatelessEra {
		body = harness.CallBody(at.Tool, arguments)
		header += "Mcp-Method: tools/call\r\nMcp-Name: " + at.Tool + "\r\n"
	}
	if session != "" {
		header += "Mcp-Session-Id: " + session + "\r\n"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		at.Path, common(at, token)+header, len(body), body)
}

// Listen requests the stream for the server's own messages.
func Listen(at Place, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\n%sMcp-Protocol-Version: %s\r\n\r\n", at.Path, common(at, token), harness.SessionEra)
}

// common has the headers of every request.
func common(at Place, token string) string {
	header := "Host: " + at.Address + "\r\nUser-Agent: bench-rig\r\nAccept: application/json, text/event-stream\r\n"
	if token != "" {
		header += "Authorization: Bearer " + token + "\r\n"
	}
	return header
}

// Initialize is the message that begins a session.
const Initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + harness.SessionEra +
	`","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`

// ListMessage requests the list of tools, in the stateless era.
const ListMessage = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` +
	harness.StatelessEra + `","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`

// List is this request in its form on the wire.
func List(at Place, token string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\n%sMcp-Protocol-Version: %s\r\nMcp-Method: tools/list\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		at.Path, common(at, token), harness.StatelessEra, len(ListMessage), ListMessage)
}
