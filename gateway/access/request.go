package access

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// ErrAudit: a decision could not be written to the audit log in time. What it
// would have allowed must not happen; answer with [AuditRefusal].
var ErrAudit = errors.New("the decision could not be written to the audit log")

// Request is what is known about one HTTP request on its way through the
// gateway. One goroutine owns it, that of the request's handler.
type Request struct {
	ID     string         // stands in every refusal and in every audit line
	Start  time.Time      // when its headers were read
	Source netip.Addr     // the client's address, seen through trusted proxies
	Grant  *grants.Grant  // nil until the token is known
	Server *grants.Server // nil on the aggregate endpoint

	// What the MCP side learns from the body, for the audit log.
	Method  string // JSON-RPC method; "" for a response, GET or DELETE
	Tool    string // the tool that tools/call names
	Session string // a hash of the session id, never the id

	span       Span // nil: the request is not traced
	status     int  // that was answered, once it is known
	httpMethod string
	serverName string // as the path names it; audited even if there is none such
	sink       Sink
	gate       *Gate // that it came through; nil in tests of what stands behind
	next       http.Handler
	hold       *grants.Hold // what it lives on, once it is admitted
	kept       atomic.Int64 // bytes that are counted in the gateway's memory
	decided    bool
	refusal    string // the reason, once it is refused
	preflight  bool   // it asked what a page may ask
	closed     bool   // the outcome line is written
}

// Decision is the gateway's answer to "may this request reach the upstream".
type Decision struct {
	Allow  bool
	Reason string // one of the Reason constants, or a word of the MCP side's own
	Detail string // for the audit log only; never a token, never a body
}

// Sink takes a request's audit lines. The middleware's own writes them to the
// audit log; tests bring others.
type Sink interface {
	// Decision returns once the line is written, or with an error if it could
	// not be within the time allowed.
	Decision(r *Request, d Decision) error
	// Refused records a refusal. It may return before the line is written.
	Refused(r *Request, f *Refusal)
	// Outcome may return before the line is written.
	Outcome(r *Request, o Outcome)
}

// Outcome is how an allowed request ended.
type Outcome struct {
	Status int   // that the client got; 0 if nothing was answered
	Bytes  int64 // of the body that the client got
	Err    error // why it ended early; nil if it did not
}

type requestKey struct{}

// NewContext returns a context that carries r, with sink for its audit lines.
func NewContext(ctx context.Context, r *Request, sink Sink) context.Context {
	r.sink = sink
	return context.WithValue(ctx, requestKey{}, r)
}

// FromContext returns the request that the middleware put into ctx, or nil.
func FromContext(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

// Decide writes the decision's audit line, and returns when it is written. For
// an allow, nothing may be sent to the upstream before that, or at all if there
// is an error ([ErrAudit]). An error for a denial changes nothing: it stays one.
//
// A denial that is answered with [Refuse] is recorded there, not here.
func (r *Request) Decide(d Decision) error {
	if r.sink == nil {
		return ErrAudit
	}
	err := r.sink.Decision(r, d)
	if err == nil {
		r.decided = true
	}
	return err
}

// Outcome writes the outcome's audit line, once: the first call counts. The
// middleware calls it after the handler returns, with what it saw itself, for
// every allowed request that has no outcome by then.
func (r *Request) Outcome(status int, bytes int64, err error) {
	if r.sink == nil || !r.decided || r.closed {
		return
	}
	r.closed, r.status = true, status
	r.sink.Outcome(r, Outcome{Status: status, Bytes: bytes, Err: err})
}

// refused records a refusal: as the outcome, if the request was allowed before.
func (r *Request) refused(f *Refusal) {
	r.refusal, r.status = f.Reason, f.Status
	switch {
	case r.sink == nil:
	case r.decided:
		r.Outcome(f.Status, 0, f)
	default:
		r.sink.Refused(r, f)
	}
}

// outcome names how the request ended, for metrics.
func (r *Request) outcome() string {
	switch {
	case r.refusal != "":
		return r.refusal
	case r.preflight:
		return ReasonPreflight
	}
	return ReasonAllowed
}
