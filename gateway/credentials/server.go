package credentials

import (
	"context"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// Server has the credentials of one registration, for each principal.
type Server struct {
	store *Store
	of    *grants.Server
	plan  *plan

	mu       sync.RWMutex
	holdings map[grants.Principal]*holding
	retired  map[grants.Principal]*holding // whose sets are still in use
	closed   bool
	next     *Server // for the same registration, with other values; nil: this is the present one
}

// Get returns the principal's credentials. It returns those that are there at once; else it
// takes them from Vault, once for all who wait. The error is an [Error], or that of ctx,
// which must be the context of a request that holds its grant.
func (s *Server) Get(ctx context.Context, grant *grants.Grant) (*Set, error) {
	now := s.store.now()
	s.mu.RLock()
	h := s.holdings[grant.Principal()]
	s.mu.RUnlock()
	if h != nil {
		if set := h.current.Load(); set != nil && set.usable(now) && h.markUsed(grant, now) {
			return set, nil
		}
	}
	return s.obtain(ctx, grant)
}

// obtain is Get where Vault must be asked.
func (s *Server) obtain(ctx context.Context, grant *grants.Grant) (*Set, error) {
	if next := s.successor(); next != nil {
		return next.Get(ctx, grant)
	}
	for {
		h, err := s.holding(ctx, grant)
		if err != nil {
			return nil, err
		}
		if !grant.SamePerson(h.grant.Load()) {
			continue // a request of theirs by another name was faster
		}
		set, err := h.await(ctx)
		if err != nil || set != nil {
			return set, err
		}
		// It ended while this waited, for a reason that does not concern this request.
	}
}

// holding returns the principal's holding, and begins one if there is none.
func (s *Server) holding(ctx context.Context, grant *grants.Grant) (*holding, error) {
	h, begun, err := s.findOrAdd(grant)
	if !begun || err != nil {
		return h, err
	}
	// From here on the end of the principal's access finds the holding. Had it come before,
	// the context of the request would be done.
	if ctx.Err() != nil {
		h.end(ErrLost)
		return nil, context.Cause(ctx)
	}
	s.store.running.Go(h.run)
	return h, nil
}

func (s *Server) findOrAdd(grant *grants.Grant) (h *holding, begun bool, err error) {
	principal := grant.Principal()
	s.mu.RLock()
	held := s.holdings[principal]
	s.mu.RUnlock()
	if held != nil && !held.isEnded() {
		if held.markUsed(grant, s.store.now()) {
			return held, false, nil
		}
		held.retire() // Vault has given the client other rights since
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.holdings[principal]; h != nil && h != held {
		return h, false, nil // another request was faster
	}
	if s.closed {
		return nil, false, &Error{Failure: FailureEnded, Err: ErrClosed, RetryAfter: time.Second}
	}
	h = newHolding(s, principal, grant)
	h.before = s.retired[principal]
	delete(s.retired, principal)
	s.holdings[principal] = h
	s.store.add(h)
	return h, true, nil
}

// keepRetired makes the users of the holding's sets get those of the next holding.
func (s *Server) keepRetired(h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired[h.principal] = h
}

// forgetRetired drops a holding whose sets are no longer in use.
func (s *Server) forgetRetired(h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired[h.principal] == h {
		delete(s.retired, h.principal)
	}
}

// forget drops a holding that has ended.
func (s *Server) forget(h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holdings[h.principal] == h {
		delete(s.holdings, h.principal)
	}
}

// all returns the holdings.
func (s *Server) all() []*holding {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*holding, 0, len(s.holdings))
	for _, h := range s.holdings {
		list = append(list, h)
	}
	return list
}

// close ends everything, and lets nothing begin.
func (s *Server) close(cause error) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, h := range s.all() {
		h.end(cause)
	}
}

// successor returns the Server that has taken this one's place; nil if none has.
func (s *Server) successor() *Server {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.next
}

// supersede leaves requests that begin to the next Server. Those under way go on.
func (s *Server) supersede(next *Server) {
	s.mu.Lock()
	if s.of.ID == next.of.ID { // else it leads elsewhere, and its requests have ended
		s.next = next
	}
	s.closed = true
	s.mu.Unlock()
	s.retire()
}

// retire makes requests that begin get other credentials. Those under way go on.
func (s *Server) retire() {
	for _, h := range s.all() {
		h.retire()
	}
}
