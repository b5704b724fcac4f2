package aggregate

import (
	"encoding/json"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// Servers ask clients something too: for input of the user, for a model's
// answer, for their roots. Each server counts its requests for itself, so to the
// client their ids are named like all else that servers name: server__id, with
// the id as it stands in the server's message. So answers find their way back
// without a table.

// named is the part of the message with the server's name before it.
func (v *way) named(at envelope.Span, message []byte) envelope.Part {
	if at.None() {
		return envelope.Part{}
	}
	text, err := json.Marshal(names.Prefix(v.server) + string(at.Of(message)))
	if err != nil { // strings always marshal
		return envelope.Part{}
	}
	return envelope.Part{Span: at, Text: text}
}

// unnamed takes such an id apart: into the server's name, and the id as the
// server wrote it.
func unnamed(raw []byte) (server string, id []byte, ok bool) {
	var text string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return "", nil, false
	}
	server, rest, ok := ofServer(text)
	if !ok || !isID([]byte(rest)) {
		return "", nil, false
	}
	return server, []byte(rest), true
}

// ofServer takes apart what was given the server's name: any text, where
// [names.Split] is for names of tools.
func ofServer(text string) (server, rest string, ok bool) {
	server, rest, ok = strings.Cut(text, names.Prefix(""))
	return server, rest, ok && server != "" && rest != ""
}

// isID reports whether the bytes are one string or number: what goes into a
// message for the server as it stands.
func isID(raw []byte) bool {
	scanner, err := jsonscan.New(raw)
	if err != nil || len(raw) == 0 || isSpace(raw[0]) {
		return false
	}
	switch c := scanner.Peek(); {
	case c == '"', c == '-', '0' <= c && c <= '9':
		return scanner.Skip() == nil && scanner.Pos() == len(raw)
	}
	return false
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
