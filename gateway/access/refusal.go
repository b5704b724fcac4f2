package access

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// Reasons of decisions, as in the audit log. The client's errors say less.
const (
	ReasonAllowed          = "allowed"
	ReasonAborted          = "aborted"          // in metrics alone: the connection ended in the middle of the answer
	ReasonPreflight        = "preflight"        // in metrics alone: a page asks for its permissions (CORS)
	ReasonPage             = "page"             // in metrics alone: of sign-in, or the gateway's own page
	ReasonBadRequest       = "bad-request"      // the HTTP request breaks a limit
	ReasonHost             = "host-not-allowed" // the Host header names another service
	ReasonOrigin           = "origin-not-allowed"
	ReasonNoToken          = "no-token"
	ReasonMalformedToken   = "malformed-token"
	ReasonInactiveToken    = "inactive-token" // unknown, expired or revoked
	ReasonSource           = "source-not-allowed"
	ReasonAudience         = "audience" // the token is for another endpoint
	ReasonRateLimited      = "rate-limited"
	ReasonServerNotAllowed = "server-not-allowed" // where none of policy's own words says why
	ReasonVaultUnavailable = "vault-unavailable"
	ReasonAuditUnavailable = "audit-unavailable"
	ReasonServerGone       = "server-gone"
	ReasonTooManyRequests  = "too-many-requests" // of one client at once

	// Pins of the server: nobody has approved a definition of that name.
	ReasonToolNotApproved     = policy.ToolNotApproved
	ReasonPromptNotApproved   = policy.PromptNotApproved
	ReasonResourceNotApproved = policy.ResourceNotApproved

	ReasonTooManyConnections = "too-many-connections" // of one source at once
	ReasonMemory             = "buffers-full"         // of all clients together
	ReasonClientMemory       = "client-buffers-full"  // of one client
)

// Refusal is a request's "no": the answer to the client, and the reason, which only the
// audit log has.
type Refusal struct {
	Status  int    // HTTP status; 200 for a refusal inside JSON-RPC, 202 for no body at all
	Reason  string // true reason, for the audit log: one of the Reason constants, or a word of the MCP side's own
	Detail  string // more of it, for the audit log; never a token, never a body
	Message string // for the client; a full sentence without secrets

	// Code makes the body a JSON-RPC error with this code; 0 is a plain body.
	Code int
	// RPCID is the id of the JSON-RPC request, as it stood in the body; empty
	// is null.
	RPCID []byte
	// Data is the JSON of error.data's further members, as `"key":value` pairs
	// joined by commas; the request id is always added.
	Data string

	// RetryAfter, rounded up to seconds, is sent as Retry-After when positive.
	RetryAfter time.Duration

	// Allow is sent as Allow, with a 405.
	Allow string

	challenge string // the WWW-Authenticate of a 401
	metadata  string // the URL of the resource's metadata, for the challenge; "" at no resource
	hangUp    bool   // end the connection after the answer
}

// Error makes a Refusal usable as an error. The text is the audit log's.
func (f *Refusal) Error() string {
	if f.Detail == "" {
		return f.Reason
	}
	return f.Reason + ": " + f.Detail
}

// AuditRefusal is the answer to a request that [Request.Decide] could not
// record.
func AuditRefusal() *Refusal {
	return &Refusal{
		Status:     http.StatusServiceUnavailable,
		Reason:     ReasonAuditUnavailable,
		Message:    "The gateway cannot serve requests at the moment.",
		RetryAfter: time.Second,
	}
}

// CutCause returns the refusal that tells why the request's context was ended by the
// gateway, or nil if it was not: the client went away, or nothing happened yet.
// It is of use only while nothing has been answered.
func CutCause(ctx context.Context) *Refusal {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, grants.ErrInactive):
		return invalidToken(ReasonInactiveToken)
	case errors.Is(cause, grants.ErrNotAllowed):
		return notAllowed(cause)
	case errors.Is(cause, grants.ErrServerGone):
		return serverGone(cause)
	case errors.Is(cause, grants.ErrUnavailable):
		return unavailable(cause)
	}
	return nil
}

// One challenge for every bad token, so that it tells nothing about which of
// the ways of being bad it was (RFC 6750, section 3).
const (
	challengeNoToken  = `Bearer realm="mcp"`                                                                           //nolint:gosec // a challenge, no credential
	challengeBadToken = `Bearer realm="mcp", error="invalid_token", error_description="The access token is not valid"` //nolint:gosec // a challenge, no credential
)

// fullChallenge names the resource's metadata where there is some (RFC 9728, section 5.1), and
// the one scope.
func (f *Refusal) fullChallenge() string {
	if f.metadata == "" {
		return f.challenge
	}
	return f.challenge + `, resource_metadata="` + f.metadata + `", scope="mcp"`
}

func invalidToken(reason string) *Refusal {
	return &Refusal{
		Status:    http.StatusUnauthorized,
		Reason:    reason,
		Message:   "The access token is not valid.",
		challenge: challengeBadToken,
	}
}

func noToken() *Refusal {
	return &Refusal{
		Status:    http.StatusUnauthorized,
		Reason:    ReasonNoToken,
		Message:   "Send an access token as \"Authorization: Bearer <token>\".",
		challenge: challengeNoToken,
	}
}

// forbidden is the same for a server that is not allowed and for one that does
// not exist, so that nobody can ask which servers there are.
func forbidden(reason string) *Refusal {
	return &Refusal{
		Status:  http.StatusForbidden,
		Reason:  reason,
		Message: "This client may not reach this server.",
	}
}

// notAllowed is forbidden with the decision as the reason. mcp/evaluate answers the same
// for that client and server.
func notAllowed(err error) *Refusal {
	var decision *grants.NotAllowed
	var item *grants.ItemNotAllowed
	if errors.As(err, &item) {
		f := forbidden(string(item.Item) + "-not-allowed")
		f.Detail = err.Error()
		return f
	}
	if !errors.As(err, &decision) {
		f := forbidden(ReasonServerNotAllowed)
		f.Detail = err.Error()
		return f
	}
	f := forbidden(decision.Decision.Decision)
	f.Detail = decision.Reason
	return f
}

// serverGone is forbidden for a server that is not registered any more, or disabled.
func serverGone(err error) *Refusal {
	if errors.Is(err, grants.ErrServerDisabled) {
		return forbidden(policy.ServerDisabled)
	}
	return forbidden(ReasonServerGone)
}

func tooMany(message string, err error) *Refusal {
	f := &Refusal{
		Status:     http.StatusTooManyRequests,
		Reason:     ReasonRateLimited,
		Message:    message,
		RetryAfter: time.Second,
	}
	if errors.Is(err, grants.ErrTooMany) {
		f.Reason = ReasonTooManyRequests
	}
	return f
}

func badRequest(detail string) *Refusal {
	return &Refusal{
		Status:  http.StatusBadRequest,
		Reason:  ReasonBadRequest,
		Detail:  detail,
		Message: "Bad request: " + detail + ".",
	}
}

func unavailable(cause error) *Refusal {
	f := &Refusal{
		Status:     http.StatusServiceUnavailable,
		Reason:     ReasonVaultUnavailable,
		Message:    "The gateway cannot check access tokens at the moment.",
		RetryAfter: retryAfter(),
	}
	if cause != nil {
		f.Detail = cause.Error()
	}
	return f
}

// Refuse answers a request with f, and records the true reason in the audit
// log. It is the one place where refusals are written, so that all of them
// carry the request's id and none of them says more than the client may know.
// Nothing may have been answered before.
func Refuse(w http.ResponseWriter, r *http.Request, f *Refusal) {
	refuse(w, FromContext(r.Context()), f)
}

func refuse(w http.ResponseWriter, req *Request, f *Refusal) {
	var id string
	if req != nil {
		id = req.ID
		req.Record(f)
	}
	f.Write(w, id)
}

// Write answers the request of that id, and records nothing: the refusal is one
// that [Request.Record] has recorded.
func (f *Refusal) Write(w http.ResponseWriter, id string) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if f.challenge != "" {
		header.Set("WWW-Authenticate", f.fullChallenge())
	}
	if f.Allow != "" {
		header.Set("Allow", f.Allow)
	}
	if f.hangUp {
		header.Set("Connection", "close")
	}
	if f.RetryAfter > 0 {
		seconds := (f.RetryAfter + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	if f.Status == http.StatusAccepted || f.Status == http.StatusNoContent {
		w.WriteHeader(f.Status)
		return
	}
	body := f.body(id)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(f.Status)
	_, _ = w.Write(body) //nolint:gosec // JSON, sent as JSON; a client that is gone needs no answer
}

// body is {"error":{"message","request_id"}} or, with a code, a JSON-RPC error
// whose data holds the request id. Both show the message where MCP clients look
// for it.
func (f *Refusal) body(id string) []byte {
	b := make([]byte, 0, 256)
	if f.Code == 0 {
		b = protocol.AppendObject(b, protocol.Member("error", protocol.Object(
			protocol.StringMember("message", f.Message), protocol.RequestID(id))))
		return append(b, '\n')
	}
	b = protocol.AppendError(b, f.RPCID, f.Code, f.Message, protocol.RequestID(id), []byte(f.Data))
	return append(b, '\n')
}

// retryAfter spreads the clients' return over a few seconds, so that they do
// not all come back at once.
func retryAfter() time.Duration {
	return time.Duration(1+rand.IntN(3)) * time.Second //nolint:gosec // spreading load needs no secrecy
}
