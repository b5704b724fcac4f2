package grants

import "context"

// End tells that access was taken away, or may have been, for those who hold
// more than a request for it: child processes and sessions kept in memory.
type End struct {
	// Grant has ended: its token was revoked, expired, cannot be confirmed any
	// more, or has left the cache, so that nothing more will be heard of it. Other
	// tokens of the same client may live on. Nil in the end of a server.
	Grant *Grant

	// Successor replaces Grant where the token lives on, perhaps with less
	// access than before. Nil if the token has ended.
	Successor *Grant

	// Server is a registration that has ended. Nil in the end of a grant.
	Server *Server
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
