package grants

import (
	"errors"
	"time"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// The expiry of a leased token takes no access away: its holder has another one by then, or gets
// one. So calls in flight are answered, streams end in good order, and what the gateway keeps
// for the principal waits for the next token. A lease that is revoked before its end is another
// matter: the engine tells of that, and of that alone, on the feed.
//
// The entry of a token that has expired leaves the cache, and nothing begins on it. While calls
// are in flight it stays known as outlived: whatever takes access away ends them.

// ErrExpired: the lease of the token has come to its end. It is told to those who keep something
// beyond a request, which may wait for the principal's next token.
var ErrExpired = errors.New("the token's lease has expired")

const (
	// leaseSlack is how long before its expiry Vault's "no" about a leased token is taken for
	// it: the clocks are not exact. Where it was a revocation, the feed says so.
	leaseSlack = 2 * time.Second

	// outliveMost bounds how long calls outlive their token where no other bound is set.
	outliveMost = 5 * time.Minute
)

// isOver reports whether the token has a lease which has come to its end.
func (g *Grant) isOver(now time.Time) bool {
	return g.Leased && !g.ExpiresAt.IsZero() && clock.Reached(now, g.ExpiresAt.Add(-leaseSlack))
}

// conclude ends an entry whose token Vault does not know any more: by its expiry if that has
// come, else it was revoked. Broker.mu is held.
func (b *Broker) conclude(e *entry) {
	if g := e.grant.Load(); g != nil && g.isOver(time.Now()) {
		b.expire(e)
		return
	}
	b.end(e, ErrInactive)
}

// expire ends an entry by the expiry of its token's lease. Broker.mu is held.
func (b *Broker) expire(e *entry) {
	g, held := e.expire()
	if g == nil {
		return
	}
	if held {
		b.outlived[e] = struct{}{}
		e.principal.outlived++
	}
	last := b.cache.remove(e, g)
	b.notify(End{Grant: g, Expired: true, Last: last})
}

// expire lets nothing begin on the entry any more, and tells those who asked to hear of it. It
// returns the grant, unless the entry has ended, and whether requests live on it.
func (e *entry) expire() (g *Grant, held bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != nil || e.expired {
		return nil, false
	}
	e.expired = true
	g = e.grant.Load()
	if e.live == nil {
		e.ended = ErrInactive
		e.grant.Store(nil)
		return g, false
	}
	for h := e.live; h != nil; h = h.next {
		if h.expire != nil {
			h.expire()
		}
	}
	return g, true
}

func (e *entry) hasExpired() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.expired
}

// OnExpiry has f called when the lease of the request's token expires; at once if it has.
// The request itself goes on. f must not block.
func (h *Hold) OnExpiry(f func()) {
	h.entry.mu.Lock()
	expired := h.entry.expired
	if !expired {
		h.expire = f
	}
	h.entry.mu.Unlock()
	if expired {
		f()
	}
}

// HasExpired reports whether the lease of the request's token has expired, and was not renewed.
func (h *Hold) HasExpired() bool {
	g := h.Grant()
	return g != nil && g.isOver(time.Now()) && h.entry.hasExpired()
}

// endOutlived ends the calls on an entry that has expired. Broker.mu is held.
func (b *Broker) endOutlived(e *entry, cause error) {
	delete(b.outlived, e)
	e.principal.outlived--
	g := e.kill(cause)
	if g != nil && e.principal.isUnused() {
		b.cache.drop(g.Principal(), e.principal)
	}
}

// cutOutlived ends those calls for whose grants it wants that. Broker.mu is held.
func (b *Broker) cutOutlived(cause error, wanted func(g *Grant) bool) {
	for e := range b.outlived {
		if g := e.grant.Load(); wanted(g) {
			b.endOutlived(e, cause)
		}
	}
}

// applyToOutlived applies a change to calls that outlive their token. Vault cannot be asked about
// that any more: whatever might have changed the client's rights ends them. Broker.mu is held.
func (b *Broker) applyToOutlived(c *vaultclient.Change, v *feedPosition) {
	if len(b.outlived) == 0 {
		return
	}
	cause := ErrUnavailable
	if ends(c) {
		cause = ErrInactive
	}
	b.cutOutlived(cause, func(g *Grant) bool {
		if g.epoch == v.epoch && g.index >= c.Index {
			return false // its answer is younger than the change
		}
		switch scopeOf(c) {
		case scopeToken:
			return ends(c) && (g.Accessor == c.Accessor || g.SignIn != nil && g.SignIn.Accessor == c.SignIn)
		case scopeClient:
			return g.ClientID == c.ClientID
		case scopeRole:
			return g.role == c.Name
		case scopeEverything:
			return true
		case scopeServers, scopeKeys:
		}
		return false
	})
}

// loseOutlived ends the calls that outlive other tokens of the one that was lost: those of its
// sign-in, and all of the principal's if it has no token left. Broker.mu is held.
func (b *Broker) loseOutlived(lost *Grant, last bool) {
	b.cutOutlived(ErrInactive, func(g *Grant) bool {
		return g.Principal() == lost.Principal() && (last || g.Anchor() == lost.Anchor())
	})
}

// loseUnheard ends the calls that outlive tokens of a client, one of whose own has been revoked
// that this gateway does not know, if it knows no other one. Broker.mu is held.
func (b *Broker) loseUnheard(c *vaultclient.Change) {
	b.cutOutlived(ErrInactive, func(g *Grant) bool {
		return g.SignIn == nil && c.SignIn == "" && g.ClientID == c.ClientID && g.entry.principal.entries == nil
	})
}

// inspectOutlived ends calls that have outlived their token for too long, and those of whom
// nobody can say that they may go on: only the feed can.
func (b *Broker) inspectOutlived(e *entry, g *Grant, now time.Time) {
	v := b.position.Load()
	if confirmed, ok := v.lastConfirmed(g); !ok || clock.Age(now, confirmed) >= v.maxAge-sweepInterval { // by the next look
		b.endIf(e, g, ErrUnavailable)
		return
	}
	e.cutOverdue(clock.Age(now, g.ExpiresAt), b.outliveBound)
}

// outliveBound is how long a call to the server may outlive its token; "" for a call to several.
func (b *Broker) outliveBound(server string) time.Duration {
	if b.options.CallTimeout == nil {
		return outliveMost
	}
	return b.options.CallTimeout(server)
}

// cutOverdue cancels the requests that have outlived the token, which expired so long ago, for
// longer than they may.
func (e *entry) cutOverdue(age time.Duration, bound func(server string) time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for h := e.live; h != nil; h = h.next {
		name := ""
		if h.server != nil {
			name = h.server.Name
		}
		if age >= bound(name) {
			h.cancel(ErrInactive)
		}
	}
}

// forgetOutlived forgets the entries on which no request lives any more.
func (b *Broker) forgetOutlived() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := range b.outlived {
		if !e.hasLive() {
			b.endOutlived(e, ErrInactive)
		}
	}
}
