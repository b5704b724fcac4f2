package aggregate

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// Reasons of refusals, for the audit log.
const (
	reasonSession     = "unknown-session"
	reasonName        = "unknown-name" // of a tool, prompt or resource
	reasonMethod      = "unknown-method"
	reasonCursor      = "unknown-cursor"
	reasonUnreachable = "upstream-unreachable"
	reasonFull        = "too-many-sessions"

	reasonUpstreamStatus = "upstream-status" // of the server's own endpoint
)

const retryAfter = time.Second

// rpc makes the refusal's body an answer to the message, if that is a request.
func (x *exchange) rpc(f *access.Refusal, code int) *access.Refusal {
	if id := x.id(); id != nil {
		f.Code, f.RPCID = code, id
	}
	return f
}

// plain refuses what breaks the protocol's rules for requests.
func (x *exchange) plain(status int, message string) *access.Refusal {
	return x.rpc(&access.Refusal{Status: status, Reason: access.ReasonBadRequest, Detail: message, Message: message},
		protocol.CodeInvalidRequest)
}

// badVersion refuses a version of the era without sessions that the gateway does
// not know.
func (x *exchange) badVersion(version string) *access.Refusal {
	f := x.plain(http.StatusBadRequest, "This protocol version is not supported.")
	f.Code = protocol.CodeUnsupportedVersion
	f.Data = string(protocol.Member("supported", protocol.Strings([]string{protocol.VersionStateless}))) + "," +
		string(protocol.StringMember("requested", version))
	return f
}

// unknownMethod refuses what names no server: nobody could be asked.
func (x *exchange) unknownMethod() *access.Refusal {
	f := x.rpc(&access.Refusal{
		Status:  http.StatusOK,
		Reason:  reasonMethod,
		Message: "This method is not available on this endpoint.",
	}, protocol.CodeMethodNotFound)
	if x.session == nil {
		f.Status = http.StatusNotFound
	}
	return f
}

// badCursor refuses a cursor that is not one of the list.
func (x *exchange) badCursor() *access.Refusal {
	return x.rpc(&access.Refusal{
		Status: http.StatusOK, Reason: reasonCursor, Message: "The cursor is not one of this list.",
	}, protocol.CodeInvalidParams)
}

// unknownName is the answer to a call of what no server that the client may
// reach has, whether there is such a server or not.
func (x *exchange) unknownName(reason, detail string) *access.Refusal {
	f := x.rpc(&access.Refusal{Status: http.StatusOK, Reason: reason, Detail: detail}, protocol.CodeInvalidParams)
	switch x.message.Method {
	case protocol.MethodToolsCall:
		f.Message = "This tool is not available to this client."
	case protocol.MethodResourcesRead, protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		f.Message = "This resource is not available to this client."
		if x.session != nil {
			f.Code = protocol.CodeResourceNotFound
		}
		if !x.message.URI.None() {
			f.Data = string(protocol.Member("uri", x.message.URI.Of(x.message.Data)))
		}
	default:
		f.Message = "This prompt or resource is not available to this client."
	}
	return f
}

// noSession is the answer to a session id that is not the client's: clients
// start anew when they get it.
func (x *exchange) noSession() *access.Refusal {
	return &access.Refusal{
		Status:  http.StatusNotFound,
		Reason:  reasonSession,
		Code:    protocol.CodeNoSession,
		RPCID:   x.id(),
		Message: protocol.MessageNoSession,
	}
}

// unreachable is the answer where a server could not be asked. It is one of many
// to the client, whose connection must not end for it: so it is an answer to the
// message, whatever the HTTP status would be at the server's own endpoint.
func (x *exchange) unreachable(server string, err error) *access.Refusal {
	if f := access.Cut(x.r.Context()); f != nil {
		return f
	}
	var refused *access.Refusal
	if errors.As(err, &refused) && isOwn(refused.Reason) {
		return refused
	}
	return x.rpc(&access.Refusal{
		Status:  http.StatusOK,
		Reason:  reasonUnreachable,
		Detail:  "server " + strconv.Quote(server) + ": " + err.Error(),
		Message: "The server cannot be reached.",
	}, protocol.CodeInternalError)
}

// isOwn reports whether a refusal is about the gateway, and not about one of the
// servers behind it.
func isOwn(reason string) bool {
	switch reason {
	case access.ReasonInactiveToken, access.ReasonVaultUnavailable, access.ReasonAuditUnavailable, access.ReasonMemory, access.ReasonClientMemory:
		return true
	}
	return false
}

// noRoom is the refusal of [access.Request.Reserve].
func (x *exchange) noRoom(err error) *access.Refusal {
	var f *access.Refusal
	if errors.As(err, &f) {
		return f
	}
	return x.unreachable("", err)
}
