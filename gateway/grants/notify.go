package grants

import (
	"context"
	"iter"
	"sync"
)

// End tells that access was taken away, or may have been, for those who hold
// more than a request for it: child processes and sessions kept in memory.
type End struct {
	// Grant has ended: its token was revoked, expired, cannot be confirmed any
	// more, or has left the cache, so that nothing more will be heard of it. Other
	// tokens of the same client may live on, and the token itself may be back by the
	// time of the call: [Grant.Stay] tells. Nil in the end of a server.
	Grant *Grant

	// Successor replaces Grant where the token lives on, perhaps with less
	// access than before. Nil if the token has ended.
	Successor *Grant

	// Lost: access was taken away. The token was revoked, or it was issued and has
	// expired. False where the token's lease has expired, where Vault cannot be asked, and
	// where the token has only left the cache.
	Lost bool

	// Expired: the token's lease has come to its end, which takes no access away. What was
	// kept for the principal waits for its next token.
	Expired bool

	// Last: no other token of the principal is in the cache.
	Last bool

	// Unheard: access may have been taken away from clients of whom no token is in the cache,
	// so that no other End tells of it: from the client with this id, or from all if it is "".
	// With a SignIn, the accessor that names one, it is what hangs on that alone.
	Unheard   bool
	ClientID  string
	SignIn    string
	OwnTokens bool // it is about tokens of the client's own, not about people who act as it

	// Server is a registration that has ended. Nil in the end of a grant.
	Server *Server
}

// Concerns reports whether an unheard end may be about the principal.
func (e *End) Concerns(p Principal) bool {
	switch {
	case e.ClientID != "" && p.ClientID() != e.ClientID:
		return false
	case e.SignIn != "":
		return p.IsPerson()
	}
	return !e.OwnTokens || !p.IsPerson()
}

// Among returns those of the principals whom an unheard end may be about.
func (e *End) Among(principals iter.Seq[Principal]) []Principal {
	var found []Principal
	for p := range principals {
		if e.Concerns(p) {
			found = append(found, p)
		}
	}
	return found
}

// OnEnd has f called for every end from now on. Calls come one at a time, soon
// after the end; f must not block.
func (b *Broker) OnEnd(f func(End)) {
	b.watchersMu.Lock()
	defer b.watchersMu.Unlock()
	b.watchers = append(b.watchers, f)
}

// OnRegistry has f called after every change of the registry from now on. f must
// not block.
func (b *Broker) OnRegistry(f func()) {
	b.watchersMu.Lock()
	defer b.watchersMu.Unlock()
	b.registryWatchers = append(b.registryWatchers, f)
}

func (b *Broker) notifyRegistry() {
	b.watchersMu.Lock()
	watchers := b.registryWatchers
	b.watchersMu.Unlock()
	for _, f := range watchers {
		f()
	}
}

// OnPins has f called for every server whose pins have changed, from now on. f must not block.
func (b *Broker) OnPins(f func(*Server)) {
	b.watchersMu.Lock()
	defer b.watchersMu.Unlock()
	b.pinsWatchers = append(b.pinsWatchers, f)
}

func (b *Broker) notifyPins(changed []*Server) {
	b.watchersMu.Lock()
	watchers := b.pinsWatchers
	b.watchersMu.Unlock()
	for _, server := range changed {
		for _, f := range watchers {
			f(server)
		}
	}
}

func (b *Broker) notify(end End) { b.ends.push(end) }

func (b *Broker) runNotify(ctx context.Context) {
	for {
		end, ok := b.ends.pop(ctx)
		if !ok {
			return
		}
		b.watchersMu.Lock()
		watchers := b.watchers
		b.watchersMu.Unlock()
		for _, f := range watchers {
			f(end)
		}
	}
}

// queue is an unbounded queue. It holds entries and servers, so their number bounds it.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	ready chan struct{} // holds a value while there may be items
}

func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

func (q *queue[T]) push(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	wake(q.ready)
}

// pop waits for an item, and reports false when ctx is done.
func (q *queue[T]) pop(ctx context.Context) (item T, ok bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			item = q.items[0]
			q.items = q.items[1:]
			if len(q.items) > 0 {
				wake(q.ready) // for the next worker
			}
			q.mu.Unlock()
			return item, true
		}
		q.items = nil
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return item, false
		}
	}
}

// wake leaves a value in a channel that holds one, unless one is there.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
