// Package serverside has the rules that MCP makes for servers on streamable HTTP. They hold
// wherever the gateway is the client's server itself: on /mcp, and for servers on stdio and
// HTTP+SSE, which a bridge translates for.
package serverside

import (
	"net/http"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// Reasons of refusals, for the audit log, that more than one package uses.
const (
	ReasonNoSession      = "unknown-session"
	ReasonUnreachable    = "upstream-unreachable"
	ReasonUpstreamStatus = "upstream-status"

	// ReasonUnauthorized: the server refuses the credentials that the gateway sends.
	ReasonUnauthorized = "upstream-unauthorized"
	// ReasonCredentials: the credentials that the server needs cannot be had from Vault.
	ReasonCredentials = "upstream-credentials" //nolint:gosec // a reason, and no credential
)

// Messages of refusals that more than one package uses.
const (
	MessageVersion   = "This protocol version is not supported."
	MessageDuplicate = "A request of this id is in flight already."
)

// Purpose is what a client's HTTP request is for.
type Purpose uint8

// Purposes of requests.
const (
	Initialize Purpose = iota + 1 // opens a session
	InSession                     // sends a message in a session
	Stateless                     // sends a message without a session
	Listen                        // opens a session's stream
	Terminate                     // ends a session
)

// Request is a client's HTTP request.
type Request struct {
	Method    string // of HTTP
	Header    http.Header
	Message   *envelope.Envelope // empty with GET and DELETE
	ID        []byte             // of the message, if that is a request
	Stateless bool               // see [envelope.Envelope.Stateless]

	AcceptsJSON, AcceptsStream bool
}

// PurposeOf returns what the request is for, and refuses a request that breaks the
// protocol's rules. With [InSession], [Listen] and [Terminate] the request names a session,
// which need not exist.
func PurposeOf(r *Request) (Purpose, *access.Refusal) {
	switch {
	case r.Method != http.MethodPost && r.Stateless:
		return 0, onlyPost("This protocol version has no sessions.")
	case r.Method == http.MethodGet:
		return Listen, r.checkListen()
	case r.Method == http.MethodDelete:
		return Terminate, r.checkSession()
	case !r.AcceptsJSON && !r.AcceptsStream:
		return 0, BadRequest(r.ID, http.StatusNotAcceptable, "Accept must list application/json and text/event-stream.")
	case !r.Stateless && r.Message.Kind == envelope.Request && r.Message.Method == protocol.MethodInitialize:
		return Initialize, nil
	case r.Stateless || r.Message.Version != "" && r.Header[protocol.HeaderSession] == nil:
		// Also with a version that the gateway does not know.
		return Stateless, r.checkStateless()
	case !protocol.SpeaksSessions(r.Header):
		return 0, BadRequest(r.ID, http.StatusBadRequest, MessageVersion)
	}
	return InSession, r.checkSession()
}

func (r *Request) hasSession() bool { return protocol.First(r.Header, protocol.HeaderSession) != "" }

// checkSession refuses a request that names no session.
func (r *Request) checkSession() *access.Refusal {
	if !r.hasSession() {
		return BadRequest(r.ID, http.StatusBadRequest, "Mcp-Session-Id is required: initialize a session first.")
	}
	return nil
}

// checkListen refuses a request for a stream that cannot be one of a session.
func (r *Request) checkListen() *access.Refusal {
	switch {
	case !r.AcceptsStream:
		return NeedsStream(nil)
	case !r.hasSession():
		return onlyPost("There is no stream without a session.")
	}
	return nil
}

// checkStateless refuses what cannot be a message without a session.
func (r *Request) checkStateless() *access.Refusal {
	switch {
	case r.Message.Kind == envelope.Response:
		return BadRequest(nil, http.StatusBadRequest, "A message must be a request or a notification.")
	case r.Message.Kind == envelope.Request && r.Message.Version == "":
		// A server would take it for a message in a session.
		return InvalidParams(r.ID, "params._meta must declare the protocol version.")
	}
	return nil
}

// Answer makes f an error response to the request of that id; not without an id.
func Answer(f *access.Refusal, id []byte, code int) *access.Refusal {
	if id != nil {
		f.Code, f.RPCID = code, id
	}
	return f
}

// BadRequest refuses a request that breaks the protocol's rules.
func BadRequest(id []byte, status int, message string) *access.Refusal {
	f := &access.Refusal{Status: status, Reason: access.ReasonBadRequest, Detail: message, Message: message}
	return Answer(f, id, protocol.CodeInvalidRequest)
}

// InvalidParams refuses a request for its params, with status 400.
func InvalidParams(id []byte, message string) *access.Refusal {
	f := BadRequest(id, http.StatusBadRequest, message)
	f.Code = protocol.CodeInvalidParams
	return f
}

// NeedsStream refuses a request whose answer can only be a stream.
func NeedsStream(id []byte) *access.Refusal {
	return BadRequest(id, http.StatusNotAcceptable, "Accept must list text/event-stream.")
}

// NoSession answers a session id that is not one of the client's, whether it is another
// client's or nobody's. Clients open a new session then.
func NoSession(id []byte) *access.Refusal {
	return &access.Refusal{
		Status:  http.StatusNotFound,
		Reason:  ReasonNoSession,
		Code:    protocol.CodeNoSession,
		RPCID:   id,
		Message: protocol.MessageNoSession,
	}
}

// onlyPost refuses an HTTP method other than POST.
func onlyPost(message string) *access.Refusal {
	f := BadRequest(nil, http.StatusMethodNotAllowed, message)
	f.Allow = http.MethodPost
	return f
}
