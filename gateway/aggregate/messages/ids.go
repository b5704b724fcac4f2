package messages

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// Servers ask clients too: for user input, for a model's answer, for roots. Each server
// numbers its requests for itself. So the client gets their ids with the server's name in
// front, like all names of servers: server__id, with the id as it stands in the server's
// message. The client's response names its server then, and no table is needed.

// QualifyID puts the server's name in front of the id at that place.
func QualifyID(server string, at envelope.Span, message []byte) envelope.Part {
	if at.None() {
		return envelope.Part{}
	}
	return envelope.Part{Span: at, Text: protocol.AppendString(nil, names.Prefix(server)+string(at.Of(message)))}
}

// SplitID splits an id of QualifyID: into the server's name, and the id as the server wrote
// it.
func SplitID(raw []byte) (server string, id []byte, ok bool) {
	text, ok := StringOf(raw)
	if !ok {
		return "", nil, false
	}
	server, rest, ok := SplitServer(text)
	if !ok || !isID([]byte(rest)) {
		return "", nil, false
	}
	return server, []byte(rest), true
}

// SplitServer splits off the server's name in front of any text; [names.Split] is only for
// names of tools and prompts.
func SplitServer(text string) (server, rest string, ok bool) {
	server, rest, ok = strings.Cut(text, names.Prefix(""))
	return server, rest, ok && server != "" && rest != ""
}

// isID reports whether the bytes are one string or number, which can go into a message for
// the server.
func isID(raw []byte) bool {
	scanner, err := jsonscan.New(raw)
	if err != nil {
		return false
	}
	switch c := scanner.Peek(); {
	case scanner.Pos() > 0: // white space
	case c == '"', c == '-', '0' <= c && c <= '9':
		return scanner.Skip() == nil && scanner.Pos() == len(raw)
	}
	return false
}

// IDKey is an id or a progress token, however it is written. It has one size, since
// clients may choose ids of any length.
type IDKey [sha256.Size]byte

// KeyOf returns the key of an id or a token as it stands in a message.
func KeyOf(raw []byte) IDKey {
	if text, ok := StringOf(raw); ok {
		return sha256.Sum256([]byte(`"` + text))
	}
	if bytes.ContainsAny(raw, ".eE") { // most programs take 1.0 for 1
		if n, err := strconv.ParseFloat(string(raw), 64); err == nil && n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return sha256.Sum256(strconv.AppendInt(nil, int64(n), 10))
		}
	}
	return sha256.Sum256(raw)
}

// SameID reports whether a server's id is that of the request. Some servers write numbers
// as strings, or strings as numbers.
func SameID(id, requested []byte) bool {
	if bytes.Equal(id, requested) {
		return true
	}
	key := KeyOf(requested)
	return KeyOf(id) == key || KeyOf(otherType(id)) == key
}

// otherType returns the id as a string if it is a number, and as a number if it is a
// string that holds one.
func otherType(raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '"' {
		return append(append([]byte{'"'}, raw...), '"')
	}
	text, ok := StringOf(raw)
	if !ok || text == "" || !json.Valid([]byte(text)) || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return raw
	}
	return []byte(text)
}

// FindID returns the entry of the id, in either type.
func FindID(entries map[IDKey]string, id []byte) (key IDKey, server string, found bool) {
	key = KeyOf(id)
	if server, found = entries[key]; !found {
		key = KeyOf(otherType(id))
		server, found = entries[key]
	}
	return key, server, found
}
