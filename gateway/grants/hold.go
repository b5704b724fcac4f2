package grants

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
)

// Why Hold refuses, where the grant is not the reason.
var (
	// ErrStale: the grant has left the cache between Grant and Hold. Ask for
	// it again.
	ErrStale = errors.New("the grant is no longer in the cache")

	// ErrTooMany: the client has as many requests in flight as it may have.
	ErrTooMany = errors.New("the client has too many requests in flight")
)

// Use is one request's use of a grant.
type Use struct {
	Token  string     // for asking Vault again while the request lasts
	Source netip.Addr // the client's address
	Server *Server    // nil: none in particular
}

// Hold is a request that lives on a grant. Release it when the request is over.
type Hold struct {
	entry  *entry
	token  string
	source netip.Addr
	server *Server
	sub    bool            // of another request, which is counted
	ctx    context.Context //nolint:containedctx // the request's own, which asks whether it may go on
	cancel context.CancelCauseFunc

	// What the request uses of its server. Others read it once ruled is set.
	item  policy.Item
	name  string
	ruled atomic.Bool

	next, prev *Hold  // guarded by entry.mu
	expire     func() // called when the token's lease expires; nil: nobody asked. Likewise
	reruled    func() // called when the client's rules change; nil: nobody asked. Likewise
}

// Hold registers a request that uses g, and returns its context: it is
// cancelled, with one of this package's errors as the cause, as soon as the
// request must not go on. The error is ErrInactive or ErrNotAllowed if that is
// so already, ErrServerGone, ErrTooMany, or ErrStale.
func (b *Broker) Hold(ctx context.Context, g *Grant, use Use) (context.Context, *Hold, error) {
	h := new(Hold)
	ctx, err := b.HoldIn(ctx, h, g, use)
	if err != nil {
		return nil, nil, err
	}
	return ctx, h, nil
}

// HoldIn is Hold with the place of the hold, which a request has within itself.
func (b *Broker) HoldIn(ctx context.Context, h *Hold, g *Grant, use Use) (context.Context, error) {
	e := g.entry
	if e == nil {
		return nil, ErrStale
	}
	if most := int64(b.options.PerClient); e.principal.live.Add(1) > most && most > 0 {
		e.principal.live.Add(-1)
		return nil, ErrTooMany
	}
	*h = Hold{entry: e, token: use.Token, source: use.Source, server: use.Server}
	return b.register(ctx, g, h)
}

// HoldSubRequest registers in h a request to one server that a request which is held already
// makes for its client. It is cut like a request for that server, and does not count as
// one more of the client's.
func (b *Broker) HoldSubRequest(ctx context.Context, h, parent *Hold, server *Server) (context.Context, error) {
	g := parent.Grant()
	if g == nil {
		return nil, parent.entry.endCause()
	}
	if err := Allows(g, server); err != nil {
		return nil, err
	}
	*h = Hold{entry: parent.entry, token: parent.token, source: parent.source, server: server, sub: true}
	return b.register(ctx, g, h)
}

// Keep has the token of a request watched beyond the request, for something that
// its client goes on to have at the server: a session, or a child process. As a live
// request does, it has the grant confirmed and keeps it from being evicted. ended is
// called once, on a goroutine of its own, as soon as the client must not have that
// any longer, with one of this package's errors; or with [ErrExpired] when nothing more will be
// heard of the token, and it may wait for the next one. Release is called when there is
// nothing left to watch over; ended may be running by then, and is not called later.
func (b *Broker) Keep(parent *Hold, server *Server, ended func(cause error)) (release func(), err error) {
	h := new(Hold)
	ctx, err := b.HoldSubRequest(context.Background(), h, parent, server)
	if err != nil {
		return nil, err
	}
	h.keepToken()
	stop := context.AfterFunc(ctx, func() { ended(context.Cause(ctx)) })
	h.OnExpiry(func() {
		if stop() {
			go ended(ErrExpired)
		}
	})
	return sync.OnceFunc(func() {
		stop()
		h.Release()
	}), nil
}

// keepToken has the hold outlive its request without the rest of the request's header, of which the
// token may be a part.
func (h *Hold) keepToken() {
	h.entry.mu.Lock()
	defer h.entry.mu.Unlock()
	h.token = strings.Clone(h.token)
}

// register makes h live on g.
func (b *Broker) register(ctx context.Context, g *Grant, h *Hold) (context.Context, error) {
	ctx, h.cancel = context.WithCancelCause(ctx)
	h.ctx = ctx
	if err := b.link(h, g); err != nil {
		h.uncount()
		h.cancel(err)
		return nil, err
	}
	// From here on every event finds the request. Check again for events between the
	// making of g and now.
	if current := h.entry.grant.Load(); current != nil && !b.position.Load().fresh(current, time.Now()) {
		b.revalidate(h.entry, current)
	}
	if h.server != nil {
		err := b.registered(h.server)
		if err == nil {
			err = h.server.pinsKnown()
		}
		if err != nil {
			h.Release()
			return nil, err
		}
	}
	return ctx, nil
}

// Grant returns the current grant of the token; nil if it has ended.
func (h *Hold) Grant() *Grant { return h.entry.grant.Load() }

// Uses says which item of its server the request uses, which the rules of the grant admit. The
// request ends as soon as the rules of a newer grant do not: then, or at once if there is such
// a grant already, the error is an [ItemNotAllowed]. It is called once.
func (h *Hold) Uses(admittedBy *Grant, item policy.Item, name string) error {
	h.item, h.name = item, name
	h.ruled.Store(true)
	// From here on every newer grant is compared with it. Check for one between the making of
	// the decision and now.
	g := h.Grant()
	switch {
	case g == nil:
		return h.entry.endCause()
	case g == admittedBy:
		return nil
	}
	return h.itemAdmittedBy(g)
}

// OnRules has f called when the client gets other rules about items than g has; at once if it
// has them. The request itself goes on. f must not block.
func (h *Hold) OnRules(g *Grant, f func()) {
	h.entry.mu.Lock()
	present := h.entry.grant.Load()
	changed := present != nil && !present.sameRules(g)
	if !changed {
		h.reruled = f
	}
	h.entry.mu.Unlock()
	if changed {
		f()
	}
}

// sameRules reports whether both grants have the same rules about all items.
func (g *Grant) sameRules(other *Grant) bool {
	return g.SameRules(policy.Tool, other) && g.SameRules(policy.Prompt, other) && g.SameRules(policy.Resource, other)
}

// Err says why the request must not go on; nil while it may.
func (h *Hold) Err() error { return context.Cause(h.ctx) }

func (h *Hold) uncount() {
	if !h.sub {
		h.entry.principal.live.Add(-1)
	}
}

// link puts h into its entry's list.
func (b *Broker) link(h *Hold, g *Grant) error {
	e := h.entry
	e.mu.Lock()
	defer e.mu.Unlock()
	if errors.Is(e.ended, errEvicted) {
		return ErrStale
	}
	if e.ended != nil {
		return e.ended
	}
	if e.expired && !h.sub {
		return ErrStale
	}
	if current := e.grant.Load(); current != g {
		if err := h.admittedBy(current); err != nil {
			return err
		}
	}
	h.next = e.live
	if h.next != nil {
		h.next.prev = h
	}
	e.live = h
	if !e.inLiveSet {
		e.inLiveSet = true
		b.live.add(e)
	}
	return nil
}

// Release ends the hold. The context of the request is cancelled with it.
func (h *Hold) Release() {
	e := h.entry
	e.mu.Lock()
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		e.live = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.next, h.prev = nil, nil
	e.mu.Unlock()
	h.uncount()
	h.cancel(nil)
}

// admittedBy says whether the request may go on under g.
func (h *Hold) admittedBy(g *Grant) error {
	if !g.AllowsSource(h.source) {
		return ErrNotAllowed
	}
	if h.server == nil {
		return nil
	}
	if err := Allows(g, h.server); err != nil {
		return err
	}
	return h.itemAdmittedBy(g)
}

// itemAdmittedBy says whether the request may go on with what it uses under g.
func (h *Hold) itemAdmittedBy(g *Grant) error {
	if !h.ruled.Load() || g.Rules(h.server.Name).Of(h.item).Allows(h.name) {
		return nil
	}
	return &ItemNotAllowed{Item: h.item}
}
