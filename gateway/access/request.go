package access

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// ErrAudit: a decision could not be written to the audit log in time. The request must
// not reach the server; answer with [AuditRefusal].
var ErrAudit = errors.New("the decision could not be written to the audit log")

// Request is one HTTP request on its way through the gateway. The goroutine of its
// handler owns it.
type Request struct {
	ID     string         // in every refusal and in every audit line
	Start  time.Time      // when its headers were read
	Source netip.Addr     // the client's address, seen through trusted proxies
	Grant  *grants.Grant  // nil until the token is known
	Server *grants.Server // nil on the aggregate endpoint

	// Resource is the URL of the endpoint for tokens of sign-ins; "" at every other one.
	Resource string

	// Parts of the body for the audit log, set by the MCP side.
	Method      string // JSON-RPC method; "" for a response, GET or DELETE
	Tool        string // the tool that the message names
	Prompt      string // likewise
	ResourceURI string // of the resource, or the template
	Session     string // a hash of the session id, never the id

	// Credentials are those that the server gets with the request; nil if none were leased.
	Credentials Credentials

	span       Span // nil: the request is not traced
	status     int  // that was answered, once it is known
	httpMethod string
	serverName string // as the path names it; audited even if there is none such
	typed      string // the path of Resource, as the client has typed it
	sink       Sink
	gate       *Gate // that admitted it; nil in tests of the MCP side
	next       http.Handler
	hold       *grants.Hold // on its grant, once it is admitted: held
	held       grants.Hold
	context    requestContext
	body       body
	kept       atomic.Int64 // bytes that are counted in the gateway's memory
	unapproved atomic.Int64
	rated      bool // it counts in its client's rate
	decided    bool
	refusal    string // the reason, once it is refused
	preflight  bool   // it is a page's preflight
	closed     bool   // the outcome line is written
}

// Credentials are leased from Vault, and named in the audit log.
type Credentials interface {
	// Accessor is that of the Vault token with the client's alias that they hang on, and
	// PersonAccessor that of the one with the person's; "" if there is none.
	Accessor() string
	PersonAccessor() string
	// LeaseIDs are those of their leases in Vault.
	LeaseIDs() []string
}

type requestKey struct{}

// requestContext is a context that carries a request. It is a part of the request.
type requestContext struct {
	context.Context //nolint:containedctx // it is one
	request         *Request
}

// Value has the request, and what the context below has.
func (c *requestContext) Value(key any) any {
	if _, ok := key.(requestKey); ok {
		return c.request
	}
	return c.Context.Value(key)
}

// carriedBy returns the request's context, which has all that ctx has.
func (r *Request) carriedBy(ctx context.Context) context.Context {
	r.context = requestContext{ctx, r}
	return &r.context
}

// NewContext returns a context that carries r, with sink for its audit lines.
func NewContext(ctx context.Context, r *Request, sink Sink) context.Context {
	r.sink = sink
	return r.carriedBy(ctx)
}

// FromContext returns the request that the middleware put into ctx, or nil.
func FromContext(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

// NameItem notes what the message names, for the audit log.
func (r *Request) NameItem(kind policy.Item, name string) {
	name = AuditedName(kind, name)
	switch kind {
	case policy.Tool:
		r.Tool = name
	case policy.Prompt:
		r.Prompt = name
	case policy.Resource:
		r.ResourceURI = name
	}
}

// Present returns the present grant of the request's token, or the last one.
func (r *Request) Present() *grants.Grant {
	if r.hold != nil {
		if present := r.hold.Grant(); present != nil {
			return present
		}
	}
	return r.Grant
}

// Rules returns the client's present rules about the items of a server.
func (r *Request) Rules(server string) *policy.Rules { return r.Present().Rules(server) }

// Unapproved notes, for the audit log, that the client would get so many definitions, or asks for
// so many things, that nobody has approved: see [vault-plugin-secrets-mcp/gateway/pins]. Any
// goroutine may call it.
func (r *Request) Unapproved(n int) { r.unapproved.Add(int64(n)) }

// Uses notes which item of its server the request uses, which the rules of the grant admit:
// see [grants.Hold.Uses].
func (r *Request) Uses(admittedBy *grants.Grant, item policy.Item, name string) *Refusal {
	if r.hold == nil {
		return nil // in tests of the MCP side
	}
	if err := r.hold.Uses(admittedBy, item, name); err != nil {
		return refusalOf(err)
	}
	return nil
}

// Decision is the gateway's answer to "may this request reach the upstream".
type Decision struct {
	Allow  bool
	Reason string // one of the Reason constants, or a word of the MCP side's own
	Detail string // for the audit log only; never a token, never a body
}

// Outcome is how an allowed request ended.
type Outcome struct {
	Status int   // that the client got; 0 if nothing was answered
	Bytes  int64 // of the body that the client got
	Err    error // why it ended early; nil if it did not
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
		if d.Allow {
			r.noteUse()
		}
	}
	return err
}

// Allow records that the request is allowed. The refusal is the answer if it cannot be
// recorded: nothing may be sent to the upstream then.
func (r *Request) Allow() *Refusal {
	err := r.Decide(Decision{Allow: true, Reason: ReasonAllowed})
	if err == nil {
		return nil
	}
	f := AuditRefusal()
	f.Detail = err.Error()
	return f
}

// Outcome writes the outcome's audit line, once: the first call counts. The
// middleware calls it after the handler returns, for every allowed request that has no
// outcome by then.
func (r *Request) Outcome(status int, bytes int64, err error) {
	if r.sink == nil || !r.decided || r.closed {
		return
	}
	r.closed, r.status = true, status
	r.sink.Outcome(r, Outcome{Status: status, Bytes: bytes, Err: err})
}

// Record records a refusal in the audit log: as the outcome, if the request was
// allowed before. Its answer is the caller's to write; [Refuse] does both.
func (r *Request) Record(f *Refusal) {
	r.refusal, r.status = f.Reason, f.Status
	f.metadata = r.metadata()
	switch {
	case r.sink == nil:
	case r.decided:
		r.Outcome(f.Status, 0, f)
	default:
		r.sink.Refused(r, f)
	}
}

// Refused returns the reason for which the request was refused; "" if it was
// not, or not yet.
func (r *Request) Refused() string { return r.refusal }

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

// Status is the status of the answer to the client; 0 while it is not known.
func (r *Request) Status() int { return r.status }

// errNoGate: the request did not come through the middleware.
var errNoGate = errors.New("the request has no gate")

// Servers returns the registered servers that the client may reach now, by
// name.
func (r *Request) Servers() ([]*grants.Server, *Refusal) {
	if r.hold == nil {
		return nil, unavailable(errNoGate)
	}
	grant := r.hold.Grant()
	if grant == nil {
		return nil, invalidToken(ReasonInactiveToken)
	}
	servers, err := r.gate.options.Broker.ServersOf(grant)
	if err != nil {
		return nil, refusalOf(err)
	}
	return servers, nil
}

// Keep watches the request's token beyond the request, for sessions and children of its
// client at the server: see [grants.Broker.Keep].
func (r *Request) Keep(ended func(cause error)) (release func(), err error) {
	switch {
	case r.gate == nil: // in tests of the MCP side
		return func() {}, nil
	case r.hold == nil || r.Server == nil:
		return nil, errNoGate
	}
	return r.gate.options.Broker.Keep(r.hold, r.Server, ended)
}

// OnExpiry has f called when the lease of the request's token expires: for a stream, which
// ends then. Calls go on. f must not block.
func (r *Request) OnExpiry(f func()) {
	if r.hold != nil {
		r.hold.OnExpiry(f)
	}
}

// OnRules has f called when the client gets other rules about items than those of the grant:
// for a stream, which ends then. f must not block.
func (r *Request) OnRules(grant *grants.Grant, f func()) {
	if r.hold != nil {
		r.hold.OnRules(grant, f)
	}
}

// Tracer makes a span of every request, where traces are wanted.
type Tracer interface {
	// Start begins the span. The context carries it.
	Start(r *http.Request) (context.Context, Span)
}

// Span is the span of one request.
type Span interface {
	// TraceID names the trace in the audit log; "" if it is not recorded.
	TraceID() string
	// Upstream begins the span of a request to a server, and names it in the header
	// for the server. The caller ends it with the server's status, or 0.
	Upstream(r *Request, header http.Header) (end func(status int, err error))
	// End ends the span with the request. The outcome is the same as for an
	// Observer.
	End(r *Request, outcome string)
}

// TraceUpstream begins the span of the request to the server. It does nothing where
// there are no traces: the server then gets the client's own trace headers as they are.
func (r *Request) TraceUpstream(header http.Header) (end func(status int, err error)) {
	if r.span == nil {
		return func(int, error) {}
	}
	return r.span.Upstream(r, header)
}

func (r *Request) traceID() string {
	if r.span == nil {
		return ""
	}
	return r.span.TraceID()
}

// requestIDs makes ids that no other process makes: a random prefix drawn at
// the start, and a counter. They are names, not secrets.
type requestIDs struct {
	prefix string
	next   atomic.Uint64
}

func newRequestIDs() *requestIDs {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	encoding := base32.StdEncoding.WithPadding(base32.NoPadding)
	return &requestIDs{prefix: strings.ToLower(encoding.EncodeToString(random[:])) + "-"}
}

func (ids *requestIDs) new() string {
	var buf [40]byte
	b := append(buf[:0], ids.prefix...)
	return string(strconv.AppendUint(b, ids.next.Add(1), 36))
}
