package serverside

import (
	"encoding/json"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// MessageNoTask refuses a task that is not the client's, or not there.
const MessageNoTask = "This task is not available to this client."

// DeclaresTasks reports whether the client of a request without a session declares in it
// that it knows the extension for tasks.
func DeclaresTasks(message []byte, params envelope.Span) bool {
	var in struct {
		Meta map[string]json.RawMessage `json:"_meta"`
	}
	if params.None() || json.Unmarshal(params.Of(message), &in) != nil {
		return false
	}
	var capabilities struct {
		Extensions map[string]json.RawMessage `json:"extensions"`
	}
	return json.Unmarshal(in.Meta[protocol.MetaClientCapabilities], &capabilities) == nil &&
		capabilities.Extensions[protocol.ExtensionTasks] != nil
}

// NeedsTasks refuses a request about tasks, of that id, whose client does not declare that it
// knows them.
//
// https://modelcontextprotocol.io/extensions/tasks/overview
func NeedsTasks(id []byte) *access.Refusal {
	f := BadRequest(id, http.StatusBadRequest, "The client must declare the extension "+protocol.ExtensionTasks+".")
	f.Code = protocol.CodeMissingCapability
	f.Data = string(protocol.Member("requiredCapabilities", protocol.Object(protocol.Member("extensions",
		protocol.Object(protocol.Member(protocol.ExtensionTasks, []byte("{}")))))))
	return f
}
