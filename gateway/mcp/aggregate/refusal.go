package aggregate

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// JSON-RPC errors of refused messages.
const (
	codeMethodNotFound     = -32601
	codeInvalidParams      = -32602
	codeInternal           = -32603
	codeResourceNotFound   = -32002 // of the era with sessions
	codeUnsupportedVersion = -32022
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
		envelope.CodeInvalidRequest)
}

// badVersion refuses a version of the era without sessions that the gateway does
// not know.
func (x *exchange) badVersion(version string) *access.Refusal {
	f := x.plain(http.StatusBadRequest, "This protocol version is not supported.")
	requested, err := json.Marshal(version)
	if err != nil { // strings always marshal
		requested = []byte(`""`)
	}
	f.Code, f.Data = codeUnsupportedVersion, `"supported":["`+envelope.VersionStateless+`"],"requested":`+string(requested)
	return f
}

// unknownMethod refuses what names no server: nobody could be asked.
func (x *exchange) unknownMethod() *access.Refusal {
	f := x.rpc(&access.Refusal{
		Status:  http.StatusOK,
		Reason:  reasonMethod,
		Message: "This method is not available on this endpoint.",
	}, codeMethodNotFound)
	if x.session == nil {
		f.Status = http.StatusNotFound
	}
	return f
}

// badCursor refuses a cursor that is not one of the list.
func (x *exchange) badCursor() *access.Refusal {
	return x.rpc(&access.Refusal{
		Status: http.StatusOK, Reason: reasonCursor, Message: "The cursor is not one of this list.",
	}, codeInvalidParams)
}

// unknownName is the answer to a call of what no server that the client may
// reach has, whether there is such a server or not.
func (x *exchange) unknownName(reason, detail string) *access.Refusal {
	f := x.rpc(&access.Refusal{Status: http.StatusOK, Reason: reason, Detail: detail}, codeInvalidParams)
	switch x.message.Method {
	case envelope.MethodToolsCall:
		f.Message = "This tool is not available to this client."
	case envelope.MethodResourcesRead, methodSubscribe, methodUnsubscribe:
		f.Message = "This resource is not available to this client."
		if x.session != nil {
			f.Code = codeResourceNotFound
		}
		if !x.message.URI.None() {
			f.Data = `"uri":` + string(x.message.URI.Of(x.message.Data))
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
		Code:    mcp.CodeNoSession,
		RPCID:   x.id(),
		Message: mcp.MessageNoSession,
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
	}, codeInternal)
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
