package rewrite

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// ErrNoTarget: no server could have the target of the request. Answer it like a request
// for a missing target.
var ErrNoTarget = errors.New("the request does not name a target of any server")

// Target is the tool, prompt, resource or task that a request names.
type Target struct {
	Server string
	Name   string // of the tool or prompt, the resource's URI, or the task's id, on that server

	// Part is the part of the message to replace: the server gets its own name for the target,
	// and all other bytes as they are.
	Part envelope.Part
}

// Find returns the target of the request. The message is the one that the envelope was
// parsed from. The error is [ErrNoTarget], also for methods that do not name a server.
func Find(e *envelope.Envelope, message []byte) (Target, error) {
	switch e.Method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet:
		return findName(e.NameAt, e.Name, message)
	case protocol.MethodResourcesRead, protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		return findURI(e.URI, message)
	case protocol.MethodTasksGet, protocol.MethodTasksResult, protocol.MethodTasksUpdate, protocol.MethodTasksCancel:
		return findTask(e.TaskID, message)
	case protocol.MethodComplete:
		switch {
		case e.RefName.None():
			return findURI(e.RefURI, message)
		case e.RefURI.None():
			joined, _ := stringOf(e.RefName, message)
			return findName(e.RefName, joined, message)
		}
	}
	return Target{}, ErrNoTarget
}

// Edited returns the envelope of the message in the server's form, from the envelope of
// the client's message.
func (t *Target) Edited(e *envelope.Envelope) envelope.Envelope {
	edited := e.Edited(t.Part)
	if edited.Name != "" {
		edited.Name = t.Name
	}
	return edited
}

// findName finds the tool or the prompt whose name, joined, stands at that place.
func findName(at envelope.Span, joined string, message []byte) (Target, error) {
	server, name, ok := names.Split(joined)
	if !ok {
		return Target{}, ErrNoTarget
	}
	return target(at, message, strings.TrimSuffix(joined, name), "", Target{Server: server, Name: name})
}

func findURI(at envelope.Span, message []byte) (Target, error) {
	if joined, ok := stringOf(at, message); ok {
		if server, uri, ok := names.SplitURI(joined); ok {
			prefix, left := names.URIPrefix(server), ""
			if strings.HasPrefix(joined, names.UIScheme) {
				prefix, left = names.UIScheme+names.UIPrefix(server), names.UIScheme
			}
			return target(at, message, prefix, left, Target{Server: server, Name: uri})
		}
	}
	return Target{}, ErrNoTarget
}

func findTask(at envelope.Span, message []byte) (Target, error) {
	if joined, ok := stringOf(at, message); ok {
		if server, id, ok := names.SplitTask(joined); ok {
			return target(at, message, names.Prefix(server), "", Target{Server: server, Name: id})
		}
	}
	return Target{}, ErrNoTarget
}

// target leaves only so much of the prefix of the string at that place. If the string has
// escapes, or MCPJungle's form, it replaces the whole string.
func target(at envelope.Span, message []byte, prefix, left string, t Target) (Target, error) {
	start := at.Start + len(`"`)
	if bytes.HasPrefix(message[start:at.End], []byte(prefix)) {
		t.Part = envelope.Part{Span: envelope.Span{Start: start, End: start + len(prefix)}, Text: []byte(left)}
		return t, nil
	}
	text, err := json.Marshal(t.Name)
	t.Part = envelope.Part{Span: at, Text: text}
	return t, err
}

// stringOf returns the value of the string at that place.
func stringOf(at envelope.Span, message []byte) (value string, ok bool) {
	if at.None() {
		return "", false
	}
	return jsonscan.Text(at.Of(message))
}
