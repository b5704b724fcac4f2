package messages

import (
	"bytes"
	"encoding/json"
	"slices"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// Object is an object in a message, of which the members with certain keys matter.
type Object struct {
	Values []envelope.Span // where their values stand; none for a key that is not there
	Others [][]byte        // the text of each other member: key, colon and value
}

// ReadObject reads the message's object at that place. The keys are guarded: see
// [jsonscan.Object].
func ReadObject(message []byte, at envelope.Span, keys ...string) (Object, error) {
	text := at.Of(message)
	scanner, err := jsonscan.New(text)
	if err != nil {
		return Object{}, err
	}
	members, err := scanner.Object(keys)
	if err != nil {
		return Object{}, err
	}
	o := Object{Values: make([]envelope.Span, len(keys))}
	for {
		start := scanner.Pos() // behind the brace, or behind the last value
		key, more, err := scanner.Next(&members)
		if err != nil {
			return Object{}, err
		}
		if ambiguous := members.Ambiguous(); ambiguous != nil {
			return Object{}, ambiguous
		}
		if !more {
			return o, nil
		}
		value, err := scanner.Value()
		if err != nil {
			return Object{}, err
		}
		if key == jsonscan.Other {
			start += bytes.IndexByte(text[start:], '"') // behind white space and the comma
			o.Others = append(o.Others, text[start:value.End])
			continue
		}
		o.Values[key] = envelope.Span{Start: at.Start + value.Start, End: at.Start + value.End}
	}
}

// Whole is the span of all of a message.
func Whole(message []byte) envelope.Span { return envelope.Span{Start: 0, End: len(message)} }

// IsObject reports whether the value is an object.
func IsObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }

// metaEdit is a change of a message's params._meta.
type metaEdit struct {
	drop          []string // keys of members to drop
	before, after [][]byte // members to add
}

// apply returns the message with the change. Objects that are missing are added.
func (edit *metaEdit) apply(message []byte, params envelope.Span) ([]byte, error) {
	added := protocol.Member("_meta", protocol.Object(slices.Concat(edit.before, edit.after)...))
	if params.None() {
		top, err := ReadObject(message, Whole(message), "params")
		return protocol.Object(append(top.Others, protocol.Member("params", protocol.Object(added)))...), err
	}
	members, err := ReadObject(message, params, "_meta")
	if err != nil {
		return nil, err
	}
	meta := members.Values[0]
	if !IsObject(meta.Of(message)) {
		return envelope.Replace(nil, message, envelope.Part{Span: params, Text: protocol.Object(append(members.Others, added)...)}), nil
	}
	kept, err := ReadObject(message, meta, edit.drop...)
	text := protocol.Object(slices.Concat(edit.before, kept.Others, edit.after)...)
	return envelope.Replace(nil, message, envelope.Part{Span: meta, Text: text}), err
}

// AddClientMeta adds to a session's request the _meta that servers without sessions need:
// the version, who the client is, and what it can be asked.
func AddClientMeta(message []byte, params envelope.Span, info []byte, q Questions) ([]byte, error) {
	edit := metaEdit{
		drop:   []string{protocol.MetaProtocolVersion, protocol.MetaClientInfo, protocol.MetaClientCapabilities},
		before: protocol.ClientMeta(info, q.Capabilities()),
	}
	return edit.apply(message, params)
}

// MarkSubscription puts the member that names the subscription into a notification.
func MarkSubscription(message []byte, params envelope.Span, subscription []byte) ([]byte, error) {
	edit := metaEdit{drop: []string{protocol.MetaSubscriptionID}, after: [][]byte{subscription}}
	return edit.apply(message, params)
}

// CompleteResult adds to a response what clients without sessions need in it.
func CompleteResult(message []byte, method string) ([]byte, error) {
	top, err := ReadObject(message, Whole(message), "result")
	if err != nil {
		return nil, err
	}
	at := top.Values[0]
	result := at.Of(message)
	if !IsObject(result) {
		return message, nil
	}
	defaults := []struct {
		key    string
		member []byte
	}{
		{"resultType", protocol.StringMember("resultType", protocol.ResultComplete)},
		{"ttlMs", protocol.Member("ttlMs", []byte("0"))},
		{"cacheScope", protocol.StringMember("cacheScope", "private")},
	}
	members, err := ReadObject(message, at, defaults[0].key, defaults[1].key, defaults[2].key)
	if err != nil {
		return nil, err
	}
	if method != protocol.MethodResourcesRead {
		defaults = defaults[:1]
	}
	var added []byte
	for i, d := range defaults {
		if members.Values[i].None() {
			added = append(append(added, d.member...), ',')
		}
	}
	if len(bytes.TrimSpace(result[1:len(result)-1])) == 0 {
		added = bytes.TrimSuffix(added, []byte(","))
	}
	first := at.Start + len("{")
	return envelope.Replace(nil, message, envelope.Part{Span: envelope.Span{Start: first, End: first}, Text: added}), nil
}

// WithCursor returns the message with the position's cursor in its params; without one for
// the first page.
func WithCursor(message []byte, params envelope.Span, at rewrite.Position) ([]byte, error) {
	if params.None() { // only a request with a cursor needs another one
		return message, nil
	}
	members, err := ReadObject(message, params, "cursor")
	if err != nil {
		return nil, err
	}
	list := members.Others
	switch {
	case !at.First():
		list = append(list, protocol.StringMember("cursor", at.Cursor))
	case members.Values[0].None():
		return message, nil
	}
	return envelope.Replace(nil, message, envelope.Part{Span: params, Text: protocol.Object(list...)}), nil
}

// StringOf returns the value of a JSON string.
func StringOf(raw []byte) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return text, err == nil
}
