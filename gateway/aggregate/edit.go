package aggregate

import (
	"encoding/json"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// member is one member of an object that stands in a message.
type member struct {
	key  string
	text []byte // all of it: the key, the colon, the value
	raw  []byte // the value
	at   envelope.Span
}

// members returns the members of the message's object at span.
func members(message []byte, object envelope.Span) ([]member, error) {
	text := object.Of(message)
	scanner, err := jsonscan.New(text)
	if err != nil {
		return nil, err
	}
	if err := scanner.Enter('{'); err != nil {
		return nil, err
	}
	var list []member
	for {
		behind := scanner.Pos() // of the brace, or of the last value
		key, more, err := scanner.Member(len(list) == 0)
		if err != nil || !more {
			return list, err
		}
		name, err := key.Bytes()
		if err != nil {
			return nil, err
		}
		value := scanner.Pos()
		raw, err := scanner.Raw()
		if err != nil {
			return nil, err
		}
		for text[behind] != '"' { // white space and the comma
			behind++
		}
		list = append(list, member{
			key: string(name), text: text[behind:scanner.Pos()], raw: raw,
			at: envelope.Span{Start: object.Start + value, End: object.Start + scanner.Pos()},
		})
	}
}

// whole is the span of a message that was parsed.
func whole(message []byte) envelope.Span { return envelope.Span{Start: 0, End: len(message)} }

// find returns the member of that key.
func find(list []member, key string) (member, bool) {
	for _, m := range list {
		if m.key == key {
			return m, true
		}
	}
	return member{}, false
}

// isObject reports whether the value is an object.
func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }

// withCursor returns the message with another cursor in its params; "" is none.
func withCursor(message []byte, params envelope.Span, cursor string) ([]byte, error) {
	return withCursorAt(message, params, rewrite.Position{Cursor: cursor})
}

// withCursorAt returns the message with the position's cursor in its params, which
// is none on the first page.
func withCursorAt(message []byte, params envelope.Span, at rewrite.Position) ([]byte, error) {
	var list []member
	if !params.None() {
		var err error
		if list, err = members(message, params); err != nil {
			return nil, err
		}
	}
	_, found := find(list, "cursor")
	if !found && at.First() {
		return message, nil
	}
	kept := texts(list, "cursor")
	if !at.First() {
		kept = append(kept, protocol.StringMember("cursor", at.Cursor))
	}
	if params.None() { // it had a cursor all the same, or there would be none to set
		return message, nil
	}
	return envelope.Replace(nil, message, envelope.Part{Span: params, Text: protocol.Object(kept...)}), nil
}

// cursor returns the cursor in the request's params; "" if there is none.
func (x *exchange) cursor() (string, *access.Refusal) {
	if x.message.Params.None() {
		return "", nil
	}
	list, err := members(x.message.Data, x.message.Params)
	if err != nil {
		return "", x.plain(http.StatusBadRequest, "params cannot be read.")
	}
	found, ok := find(list, "cursor")
	if !ok || string(found.raw) == "null" {
		return "", nil
	}
	var text string
	if err := json.Unmarshal(found.raw, &text); err != nil {
		return "", x.badCursor()
	}
	return text, nil
}
