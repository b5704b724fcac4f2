package mcp

import (
	"net/http"
	"strconv"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// toolRules are those of one client for one server; nil if there are none.
type toolRules = *policy.Filter

// Reasons of the refusals below, for the audit log.
const (
	reasonTool   = policy.ToolNotAllowed
	reasonMethod = "method-not-allowed"
)

// ruled holds the methods that a client with tool rules may use. What they do
// is known: of all of them, only tools/call calls a tool. Anything else might be
// another way to one, as tasks/… of an extension is.
var ruled = map[string]bool{
	protocol.MethodInitialize:    true,
	protocol.MethodPing:          true,
	protocol.MethodDiscover:      true,
	protocol.MethodListen:        true,
	protocol.MethodToolsList:     true,
	protocol.MethodPromptsList:   true,
	protocol.MethodPromptsGet:    true,
	protocol.MethodResourcesList: true,
	protocol.MethodResourcesRead: true,
	protocol.MethodTemplatesList: true,
	protocol.MethodSubscribe:     true,
	protocol.MethodUnsubscribe:   true,
	protocol.MethodComplete:      true,
	protocol.MethodSetLevel:      true,
	protocol.MethodInitialized:   true,
	protocol.MethodCancelled:     true,
	protocol.MethodProgress:      true,
	protocol.MethodRootsChanged:  true,
}

// rule refuses what the client's tool rules do not let pass. The client gets
// the same answer from every server, and cannot tell a tool that it may not
// call from one that is not there.
func (x *exchange) rule() *access.Refusal {
	if x.tools == nil || x.body == nil || x.message.Kind == envelope.Response {
		return nil
	}
	f := &access.Refusal{Status: http.StatusOK, RPCID: x.id()}
	switch method := x.message.Method; {
	case method == protocol.MethodToolsCall:
		if x.tools.Allows(x.message.Name) {
			return nil
		}
		f.Reason, f.Detail = reasonTool, "tool "+strconv.Quote(bounded(x.message.Name))
		f.Code, f.Message = protocol.CodeInvalidParams, "This tool is not available to this client."
	case ruled[method]:
		return nil
	default:
		f.Reason, f.Detail = reasonMethod, "method "+strconv.Quote(bounded(method))
		f.Code, f.Message = protocol.CodeMethodNotFound, "This method is not available to this client."
		if x.stateless {
			f.Status = http.StatusNotFound
		}
	}
	if x.message.Kind == envelope.Notification {
		f.Status = http.StatusAccepted // nobody waits for an answer
	}
	return f
}
