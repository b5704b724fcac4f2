package messages

import (
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// The id of a task is server__id, where id is what the server's own endpoint of the gateway
// has sealed: see the package mcp. So the id names its server as all names do, and opens for
// its client alone.

// IsOfClientsTasks reports whether a server asks for a task of its client. A server knows
// none: see WithoutTasks. It could only know one that the client has given another server.
func IsOfClientsTasks(e *envelope.Envelope) bool {
	return e.Kind == envelope.Request && strings.HasPrefix(e.Method, protocol.PrefixTasks)
}

// WithoutTasks returns the client's initialize without the capability to serve requests as
// tasks. A client has one table of tasks for all servers, so each could ask for those of the
// others.
func WithoutTasks(message []byte, params envelope.Span) ([]byte, error) {
	if params.None() {
		return message, nil
	}
	of, err := ReadObject(message, params, "capabilities")
	if err != nil {
		return nil, err
	}
	at := of.Values[0]
	if !IsObject(at.Of(message)) {
		return message, nil
	}
	capabilities, err := ReadObject(message, at, "tasks")
	if err != nil || capabilities.Values[0].None() {
		return message, err
	}
	return envelope.Replace(nil, message, envelope.Part{Span: at, Text: protocol.Object(capabilities.Others...)}), nil
}
