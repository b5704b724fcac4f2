package access

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// errNoGate: the request did not come through the middleware.
var errNoGate = errors.New("the request has no gate")

// Servers returns the registered servers that the client may reach at present,
// by name.
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

// Keep has the request's token watched beyond the request, for what its client goes
// on to have at the server: see [grants.Broker.Keep].
func (r *Request) Keep(ended func(cause error)) (release func(), err error) {
	switch {
	case r.gate == nil: // in tests of what stands behind it
		return func() {}, nil
	case r.hold == nil || r.Server == nil:
		return nil, errNoGate
	}
	return r.gate.options.Broker.Keep(r.hold, r.Server, ended)
}

// Part makes a request of its own out of what a request to the aggregate
// endpoint asks of one server. The part is admitted to the server like a request
// to it; it has its own audit lines, under the given id and HTTP method, and its
// context ends when it must not go on. The context carries the part in any case: a refusal
// of it is the caller's to answer. done must be called at the part's end.
func (r *Request) Part(ctx context.Context, id, method, server string) (part context.Context, done func(), f *Refusal) {
	p := &Request{
		ID:         id,
		Start:      time.Now(),
		Source:     r.Source,
		Grant:      r.Grant,
		httpMethod: method,
		serverName: server,
		sink:       r.sink,
		gate:       r.gate,
	}
	if r.hold == nil {
		return context.WithValue(ctx, requestKey{}, p), func() {}, unavailable(errNoGate)
	}
	if r.span != nil {
		p.span = partSpan{r.span}
	}
	if observer := r.gate.options.Observer; observer != nil {
		observer.RequestStarted()
	}
	held, err := r.gate.admitPart(ctx, r.hold, p)
	if err != nil {
		f = refusalOf(err)
		p.refusal = f.Reason
	} else {
		ctx = held
	}
	return context.WithValue(ctx, requestKey{}, p), func() { p.done(ctx) }, f
}

// admitPart gives the part its server and its hold.
func (g *Gate) admitPart(ctx context.Context, whole *grants.Hold, p *Request) (context.Context, error) {
	if !validName(p.serverName) {
		return nil, forbidden(policy.UnknownServer)
	}
	server, err := g.server(p.serverName)
	if err != nil {
		return nil, err
	}
	held, hold, err := g.options.Broker.HoldPart(ctx, whole, server)
	if err != nil {
		return nil, err
	}
	p.Server, p.hold = server, hold
	if grant := hold.Grant(); grant != nil {
		p.Grant = grant // with the rules of the present
	}
	return held, nil
}

// done ends a part.
func (r *Request) done(ctx context.Context) {
	finish(ctx, r)
	r.forget()
	if r.hold != nil {
		r.hold.Release()
	}
	r.gate.observe(r, r.outcome())
}

// partSpan is the whole request's, which goes on when a part of it ends.
type partSpan struct{ Span }

func (partSpan) End(*Request, string) {}

// Refused returns the reason for which the request was refused; "" if it was
// not, or not yet.
func (r *Request) Refused() string { return r.refusal }
