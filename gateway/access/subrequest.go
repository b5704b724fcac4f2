package access

import (
	"context"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// SubRequest makes a request to one server on behalf of a request to the aggregate
// endpoint. The server admits it like any other request. It has its own audit lines,
// under the given id and HTTP method, and its context ends when it must not go on. The
// context carries it in any case: the caller answers a refusal. [Request.End] must be called at
// its end.
func (r *Request) SubRequest(ctx context.Context, id, method, server string) (sub context.Context, p *Request, f *Refusal) {
	p = &Request{
		ID:         id,
		Start:      time.Now(),
		Source:     r.Source,
		Grant:      r.Grant,
		Resource:   r.Resource,
		httpMethod: method,
		serverName: server,
		typed:      r.typed,
		sink:       r.sink,
	}
	if r.hold == nil {
		return p.carriedBy(ctx), p, unavailable(errNoGate)
	}
	p.gate = r.gate
	if r.span != nil {
		p.span = subSpan{r.span}
	}
	if observer := r.gate.options.Observer; observer != nil {
		observer.RequestStarted()
	}
	held, err := r.gate.admitSubRequest(ctx, r.hold, p)
	if err != nil {
		f = refusalOf(err)
		p.refusal = f.Reason
	} else {
		ctx = held
	}
	return p.carriedBy(ctx), p, f
}

// admitSubRequest gives p its server and its hold.
func (g *Gate) admitSubRequest(ctx context.Context, parent *grants.Hold, p *Request) (context.Context, error) {
	if !validName(p.serverName) {
		return nil, forbidden(policy.UnknownServer)
	}
	server, err := g.server(p.serverName)
	if err != nil {
		return nil, err
	}
	if ctx, err = g.options.Broker.HoldSubRequest(ctx, &p.held, parent, server); err != nil {
		return nil, err
	}
	p.Server, p.hold = server, &p.held
	if grant := p.held.Grant(); grant != nil {
		p.Grant = grant // with its current rules
	}
	return ctx, nil
}

// End ends a sub-request.
func (r *Request) End() {
	if r.gate == nil {
		return
	}
	finish(&r.context, r)
	r.releaseMemory()
	if r.hold != nil {
		r.hold.Release()
	}
	r.gate.observe(r, r.outcome())
}

// subSpan is the span of the request to the aggregate endpoint, which outlives its
// sub-requests.
type subSpan struct{ Span }

func (subSpan) End(*Request, string) {}
