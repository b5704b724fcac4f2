package mcp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

// Reasons of refusals, for the audit log. The client is told less.
const (
	reasonMessage        = "malformed-message"
	reasonHeaderMismatch = "header-mismatch"
	reasonNoKeys         = "no-session-keys"
	reasonUnusable       = "server-unusable" // the registration or the gateway's file is at fault
	reasonBusy           = "server-busy"
	reasonTimeout        = "upstream-timeout"
	reasonUpstreamAnswer = "upstream-answer"
)

// rpc makes the refusal's body an answer to the message, if that is a request.
func (x *exchange) rpc(f *access.Refusal) *access.Refusal {
	return serverside.Answer(f, x.id(), protocol.CodeInternalError)
}

// malformed is the answer to a message that could be read in two ways, or not
// at all.
func (x *exchange) malformed(err error) *access.Refusal {
	f := &access.Refusal{
		Status: http.StatusBadRequest,
		Reason: reasonMessage,
		Code:   protocol.CodeInvalidRequest,
	}
	var e *envelope.Error
	if errors.As(err, &e) {
		f.Code, f.Detail, f.Message = e.Code, e.Reason, e.Reason
		if !e.ID.None() {
			f.RPCID = e.ID.Of(x.body.data)
		}
		if e.Code == protocol.CodeHeaderMismatch {
			f.Reason = reasonHeaderMismatch
		}
	}
	return f
}

func bodyTooLarge() *access.Refusal {
	return &access.Refusal{
		Status:  http.StatusRequestEntityTooLarge,
		Reason:  access.ReasonBadRequest,
		Detail:  "the body is too large",
		Message: "The request's body is too large.",
	}
}

// noSession is the answer to a session id that cannot be opened. An err other than
// ErrUnknown means that the gateway cannot tell whether it is the client's.
func (x *exchange) noSession(err error) *access.Refusal {
	if errors.Is(err, session.ErrUnknown) {
		return serverside.NoSession(x.id())
	}
	return x.rpc(&access.Refusal{
		Status:     http.StatusServiceUnavailable,
		Reason:     reasonNoKeys,
		Detail:     err.Error(),
		Message:    "The gateway cannot serve sessions at the moment.",
		RetryAfter: retryAfter,
	})
}

// unusable is the answer where the gateway itself cannot serve the server.
func (x *exchange) unusable(ctx context.Context, err error) *access.Refusal {
	if f := access.CutCause(ctx); f != nil {
		return f
	}
	return x.rpc(&access.Refusal{
		Status:  http.StatusBadGateway,
		Reason:  reasonUnusable,
		Detail:  err.Error(),
		Message: "The server is not usable through this gateway.",
	})
}

func (x *exchange) busy() *access.Refusal {
	return x.rpc(&access.Refusal{
		Status:     http.StatusServiceUnavailable,
		Reason:     reasonBusy,
		Message:    "The server has too many requests in flight.",
		RetryAfter: retryAfter,
	})
}

// failed is the answer where the server could not be asked; nil if the client
// is gone, and nothing need be said. ctx is the client's request's.
func (x *exchange) failed(ctx context.Context, err error) *access.Refusal {
	if f := access.CutCause(ctx); f != nil {
		return f
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // nobody is there to be told
	}
	f := &access.Refusal{
		Status:  http.StatusBadGateway,
		Reason:  serverside.ReasonUnreachable,
		Detail:  err.Error(),
		Message: "The server cannot be reached.",
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		f.Status, f.Reason = http.StatusGatewayTimeout, reasonTimeout
		f.Message = messageLate
	}
	return x.rpc(f)
}

// badAnswer is the answer where what the server said cannot be passed on.
func (x *exchange) badAnswer(detail string) *access.Refusal {
	return x.rpc(&access.Refusal{
		Status:  http.StatusBadGateway,
		Reason:  reasonUpstreamAnswer,
		Detail:  detail,
		Message: messageUnfit,
	})
}

const (
	messageUnfit = "The server's answer cannot be passed on."
	messageLate  = "The server did not answer in time."
)

// tooLarge is the error where what the server said is too large to be read whole, as
// it must be where something in it is changed. The log is told too: the limit is the
// administrator's to set.
func (a *Answer) tooLarge() *AnswerError {
	limit := config.FormatSize(a.handler.settings().Limits.MaxList)
	a.handler.log.Warn("a server's answer is larger than limits.max_list, and was not passed on",
		"server", a.server.Name, "method", a.request.Method, "max_list", limit, "request_id", a.request.ID)
	what := "The server's answer is larger than "
	if a.message.Method == protocol.MethodToolsCall {
		what = "The tool has run, but its answer is larger than "
	}
	return &AnswerError{
		Message: what + limit + ", this gateway's limit (limits.max_list), and was not passed on.",
		Err:     errors.New("the server's answer is larger than limits.max_list, " + limit),
	}
}

// badStatus is the answer to an upstream's status that is not the client's to
// see.
func (x *exchange) badStatus(response *http.Response) *access.Refusal {
	status := response.StatusCode
	detail := "status " + strconv.Itoa(status)
	if to := location(response); to != "" {
		detail += ", Location: " + to
	}
	f := x.badAnswer(detail)
	f.Reason = serverside.ReasonUpstreamStatus
	switch {
	case status == http.StatusUnauthorized:
		f.Reason = serverside.ReasonUnauthorized
		f.Message = "The server's answer cannot be passed on: it refuses the gateway's credentials."
	case 300 <= status && status < 400:
		f.Message = "The server's answer cannot be passed on: it redirects to another URL, which has to be registered instead."
	case status == http.StatusServiceUnavailable:
		f.Status, f.RetryAfter = status, retryAfterOf(response.Header)
	case status == http.StatusGatewayTimeout:
		f.Status = status
	}
	return f
}

// location returns where an answer redirects to, without what may be a secret; ""
// if it does not.
func location(response *http.Response) string {
	to, err := response.Location()
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
}

// tellMisfit has the gateway's log name the fault of a server that does not
// answer as a server of MCP would: whoever registered it has to know.
func (u *upstream) tellMisfit(log hclog.Logger, response *http.Response) {
	status, media := response.StatusCode, mediaType(protocol.First(response.Header, protocol.HeaderContentType))
	switch {
	case status >= 500, 300 <= status && status < 400, status == http.StatusSwitchingProtocols:
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired, status == http.StatusTooManyRequests:
	case status == http.StatusOK && media != protocol.MediaJSON && media != protocol.MediaEventStream && response.ContentLength != 0:
	default:
		return
	}
	u.misfits.Do(func() {
		fields := []any{"server", u.server.Name, "status", status, "content_type", media}
		if to := location(response); to != "" {
			fields = append(fields, "location", to)
		}
		text := "a server does not answer as a server of MCP does"
		switch {
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			text = "a server refuses the gateway's credentials: correct the headers of its registration"
		case 300 <= status && status < 400:
			text = "a server redirects, which the gateway does not follow: register the URL that it redirects to"
		case status == http.StatusTooManyRequests:
			text = "a server limits the gateway's requests, which are those of all its clients"
		}
		log.Warn(text, fields...)
	})
}

// maxRetryAfter bounds the wait that a server asks for.
const maxRetryAfter = 24 * time.Hour

// retryAfterOf is the wait that a server asks for, or the usual one.
func retryAfterOf(h http.Header) time.Duration {
	text := protocol.First(h, protocol.HeaderRetryAfter)
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, retryAfter), maxRetryAfter)
}
