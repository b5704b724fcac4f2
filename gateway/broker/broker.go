package broker

import (
	"sync"
	"sync/atomic"
)

// Broker is the gateway's side of the engine. Its methods may be called from
// any goroutine.
type Broker struct {
	registry atomic.Pointer[registry]
	keys     atomic.Pointer[SessionKeys]

	watchersMu sync.Mutex
	watchers   []func(End)
}

// registry is one snapshot of the registered servers.
type registry struct {
	servers map[string]*Server
}

// End tells that access was taken away, for those who hold more than a request
// for it: child processes and sessions kept in memory.
type End struct {
	// Grant is of a token that has ended: revoked, expired, or no longer to be
	// confirmed. Other tokens of the same client may live on. Nil in the end of
	// a server.
	Grant *Grant

	// Server is a registration that has ended. Nil in the end of a grant.
	Server *Server
}

// OnEnd has f called for every end from now on. Calls come one at a time, and
// soon after the end; f must not block.
func (b *Broker) OnEnd(f func(End)) {
	b.watchersMu.Lock()
	defer b.watchersMu.Unlock()
	b.watchers = append(b.watchers, f)
}

// Server returns the registered server of that name, or nil.
func (b *Broker) Server(name string) *Server {
	snapshot := b.registry.Load()
	if snapshot == nil {
		return nil
	}
	return snapshot.servers[name]
}

// SessionKeys returns the keys that seal session ids, or nil if Vault has not
// given any yet.
func (b *Broker) SessionKeys() *SessionKeys { return b.keys.Load() }
