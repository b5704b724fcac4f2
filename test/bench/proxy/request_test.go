package proxy

import (
	"fmt"
	"strings"

	"vault-plugin-secrets-mcp/test/harness"
)

// tool is what all calls name.
const tool = "echo"

// shape is what a request and its answer look like.
type shape struct {
	text int    // bytes of the tool's argument, and about those of its result
	era  string // of the protocol
}

var (
	small   = shape{200, harness.StatelessEra}
	large   = shape{64 << 10, harness.StatelessEra}
	session = shape{200, harness.SessionEra}
)

// call is a call of the tool as it goes over the wire.
func (s shape) call(at place, token, sessionID string) []byte {
	arguments := `{"text":"` + strings.Repeat("x", s.text) + `"}`
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + at.tool + `","arguments":` + arguments + `}}`
	header := "Mcp-Protocol-Version: " + s.era + "\r\n"
	if s.era == harness.StatelessEra {
		body = harness.CallBody(at.tool, arguments)
		header += "Mcp-Method: tools/call\r\nMcp-Name: " + at.tool + "\r\n"
	}
	if sessionID != "" {
		header += "Mcp-Session-Id: " + sessionID + "\r\n"
	}
	if token != "" {
		header += "Authorization: Bearer " + token + "\r\n"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench-rig\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\n%sContent-Length: %d\r\n\r\n%s", at.path, at.address, header, len(body), body)
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + harness.SessionEra +
	`","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`
