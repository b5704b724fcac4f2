package rewrite

import (
	"bytes"
	"encoding/json"
	"errors"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// ErrNoTarget: the request names nothing that any server could have. It is to
// be answered as one for something that is not there.
var ErrNoTarget = errors.New("the request names nothing of any server")

// Target is what a request is for.
type Target struct {
	Server string
	Name   string // of the tool or prompt, or URI of the resource, on that server

	at   envelope.Span // what to replace in the message
	text []byte        // by what
}

// Find returns what the request is for. The message is what the envelope was
// parsed from. The error is [ErrNoTarget], also for methods that are for no
// single server.
func Find(e *envelope.Envelope, message []byte) (Target, error) {
	switch e.Method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet:
		return findName(e.NameAt, message)
	case protocol.MethodResourcesRead, protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		return findURI(e.URI, message)
	case protocol.MethodComplete:
		switch {
		case e.RefName.None():
			return findURI(e.RefURI, message)
		case e.RefURI.None():
			return findName(e.RefName, message)
		}
	}
	return Target{}, ErrNoTarget
}

// Append appends the message as it is for the server: with the server's own
// name for the target, all other bytes kept.
func (t *Target) Append(dst, message []byte) []byte {
	return envelope.Replace(dst, message, envelope.Part{Span: t.at, Text: t.text})
}

// Edited returns the envelope of what Append makes of the message that it was
// parsed from.
func (t *Target) Edited(e *envelope.Envelope) envelope.Envelope {
	edited := e.Edited(envelope.Part{Span: t.at, Text: t.text})
	if edited.Name != "" {
		edited.Name = t.Name
	}
	return edited
}

func findName(at envelope.Span, message []byte) (Target, error) {
	if joined, ok := stringOf(at, message); ok {
		if server, name, ok := names.Split(joined); ok {
			return target(at, message, names.Prefix(server), server, name)
		}
	}
	return Target{}, ErrNoTarget
}

func findURI(at envelope.Span, message []byte) (Target, error) {
	if joined, ok := stringOf(at, message); ok {
		if server, uri, ok := names.SplitURI(joined); ok {
			return target(at, message, names.URIPrefix(server), server, uri)
		}
	}
	return Target{}, ErrNoTarget
}

// target cuts the prefix out of the string at that place. Where it does not
// stand there as it is, because of escapes or in MCPJungle's form, the whole
// string is written anew.
func target(at envelope.Span, message []byte, prefix, server, name string) (Target, error) {
	t := Target{Server: server, Name: name}
	start := at.Start + len(`"`)
	if bytes.HasPrefix(message[start:at.End], []byte(prefix)) {
		t.at = envelope.Span{Start: start, End: start + len(prefix)}
		return t, nil
	}
	text, err := json.Marshal(name)
	t.at, t.text = at, text
	return t, err
}

// stringOf returns the value of the string that stands there.
func stringOf(at envelope.Span, message []byte) (value string, ok bool) {
	if at.None() {
		return "", false
	}
	scanner, err := jsonscan.New(at.Of(message))
	if err != nil {
		return "", false
	}
	text, err := scanner.String()
	if err != nil {
		return "", false
	}
	raw, err := text.Bytes()
	return string(raw), err == nil
}
