package access

import (
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/usage"
)

// noteUse notes what the request, which is allowed, uses. It comes with the decision and not
// with the outcome: a call or a stream may go on for hours, and a gateway that dies loses what
// was used in a minute.
func (r *Request) noteUse() {
	if r.gate == nil || r.gate.options.Usage == nil || r.Grant == nil {
		return
	}
	use := usage.Use{Client: r.Grant.ClientID}
	if r.Grant.SignIn == nil { // whose tokens live for minutes: sign-ins/ has when they were last seen
		use.Token = r.Grant.Accessor
	}
	if tool, uses := usedTool(r.Method, r.Tool); uses && r.Server != nil {
		use.Server, use.Registration, use.Tool = r.Server.Name, r.Server.ID, tool
	}
	r.gate.options.Usage.Used(use, r.Start)
}

// usedTool reports whether a message with the method uses its server, and the tool that it
// calls; "" if none. Lists, sessions and streams use nothing: a list of /mcp asks all servers of
// the client. Neither do tasks: the call has, of which one is.
func usedTool(method, tool string) (string, bool) {
	switch method {
	case protocol.MethodToolsCall:
		return tool, true
	case protocol.MethodPromptsGet, protocol.MethodResourcesRead, protocol.MethodSubscribe, protocol.MethodComplete:
		return "", true
	case "":
		return "", false
	}
	return "", !protocol.IsClientMethod(method) && !strings.HasPrefix(method, protocol.PrefixTasks)
}
