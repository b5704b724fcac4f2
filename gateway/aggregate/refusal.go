package aggregate

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// Reasons of refusals, for the audit log.
const (
	reasonName   = "unknown-name" // of a tool, a prompt or a resource
	reasonMethod = "unknown-method"
	reasonCursor = "unknown-cursor"
	reasonFull   = "too-many-sessions"
)

const retryAfter = time.Second

// refuse makes f an error response to the message, if that is a request.
func (x *exchange) refuse(f *access.Refusal, code int) *access.Refusal {
	return serverside.Answer(f, x.id(), code)
}

// invalidParams refuses a request for its params, inside JSON-RPC.
func (x *exchange) invalidParams(reason, detail, message string) *access.Refusal {
	return x.refuse(&access.Refusal{Status: http.StatusOK, Reason: reason, Detail: detail, Message: message}, protocol.CodeInvalidParams)
}

// tooLong refuses a message of which a session would have to keep too much.
func (x *exchange) tooLong() *access.Refusal {
	const message = "The message is too long for its method."
	return x.invalidParams(access.ReasonBadRequest, message, message)
}

// badCursor refuses a cursor that does not belong to the list.
func (x *exchange) badCursor() *access.Refusal {
	return x.invalidParams(reasonCursor, "", "The cursor is not one of this list.")
}

// badVersion refuses a protocol version without sessions that the gateway does not know.
func (x *exchange) badVersion(version string) *access.Refusal {
	f := serverside.BadRequest(x.id(), http.StatusBadRequest, serverside.MessageVersion)
	f.Code = protocol.CodeUnsupportedVersion
	f.Data = string(protocol.Member("supported", protocol.Strings([]string{protocol.VersionStateless}))) + "," +
		string(protocol.StringMember("requested", version))
	return f
}

// unknownMethod refuses a request that names no server.
func (x *exchange) unknownMethod() *access.Refusal {
	f := x.refuse(&access.Refusal{
		Status:  http.StatusOK,
		Reason:  reasonMethod,
		Message: "This method is not available on this endpoint.",
	}, protocol.CodeMethodNotFound)
	if x.session == nil {
		f.Status = http.StatusNotFound
	}
	return f
}

// unknownName refuses a name that no server has which the client may reach. The answer is
// the same whether there is such a server or not.
func (x *exchange) unknownName(reason, detail string) *access.Refusal {
	f := x.invalidParams(reason, detail, "This prompt or resource is not available to this client.")
	switch x.message.Method {
	case protocol.MethodTasksGet, protocol.MethodTasksResult, protocol.MethodTasksUpdate, protocol.MethodTasksCancel:
		if f := x.needsTasks(); f != nil {
			return f
		}
		f.Message = serverside.MessageNoTask
	case protocol.MethodToolsCall:
		f.Message = "This tool is not available to this client."
	case protocol.MethodResourcesRead, protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		f.Message = "This resource is not available to this client."
		if x.session != nil {
			f.Code = protocol.CodeResourceNotFound
		}
		if x.uri != nil {
			f.Data = string(protocol.Member("uri", x.uri))
		}
	}
	return f
}

// refusedItem is the answer to a request that was refused for the item that it names. The client is told
// where nobody has approved that: it may reach the server, and a name that the server does not have
// gets the same answer.
func (x *exchange) refusedItem(f *access.Refusal) *access.Refusal {
	answer := x.unknownName(f.Reason, f.Detail)
	switch f.Reason {
	case access.ReasonToolNotApproved, access.ReasonPromptNotApproved, access.ReasonResourceNotApproved:
		answer.Message = f.Message
	}
	return answer
}

// tooManySessions refuses a session that cannot be opened.
func (x *exchange) tooManySessions(err error) *access.Refusal {
	message := "This gateway has too many sessions in use."
	if errors.Is(err, errTooManyOfClient) {
		message = "This client has too many sessions in use."
	}
	return x.refuse(&access.Refusal{
		Status:     http.StatusServiceUnavailable,
		Reason:     reasonFull,
		Detail:     err.Error(),
		Message:    message,
		RetryAfter: retryAfter,
	}, protocol.CodeInternalError)
}

// unreachable answers a request whose server cannot be reached. The client's connection
// serves other servers too, so it is not ended: the answer is an error response, whatever
// the HTTP status would be at the server's own endpoint.
func (x *exchange) unreachable(server string, err error) *access.Refusal {
	if f := access.CutCause(x.r.Context()); f != nil {
		return f
	}
	var refused *access.Refusal
	if errors.As(err, &refused) && isOfGateway(refused.Reason) {
		return refused
	}
	return x.refuse(&access.Refusal{
		Status:  http.StatusOK,
		Reason:  serverside.ReasonUnreachable,
		Detail:  "server " + strconv.Quote(server) + ": " + err.Error(),
		Message: messageUnreachable,
	}, protocol.CodeInternalError)
}

// isOfGateway reports whether the reason concerns the gateway and not one of the servers.
func isOfGateway(reason string) bool {
	switch reason {
	case access.ReasonInactiveToken, access.ReasonVaultUnavailable, access.ReasonAuditUnavailable:
		return true
	}
	return isOfMemory(reason)
}

// isOfMemory reports whether the reason is that there is no room for the message.
func isOfMemory(reason string) bool {
	return reason == access.ReasonMemory || reason == access.ReasonClientMemory
}

// needsTasks refuses a request about tasks whose client does not declare that it knows them.
// Clients with sessions need not.
func (x *exchange) needsTasks() *access.Refusal {
	if x.session != nil || serverside.DeclaresTasks(x.message.Data, x.message.Params) {
		return nil
	}
	return serverside.NeedsTasks(x.id())
}
