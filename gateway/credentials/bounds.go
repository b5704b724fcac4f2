package credentials

import (
	"fmt"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// count counts the credentials of the holding. At a bound it ends those that were unused for
// the longest time: of the same principal, or of anybody. What replaces others counts in no
// bound, so there may be twice as many for a while.
func (s *Store) count(h *holding) *Error {
	settings := s.settings()
	if settings == nil {
		return &Error{Reason: ReasonOff, Err: errOff}
	}
	for {
		err := s.tryCount(h, settings.MaxLeasesPerClient, settings.MaxLeases)
		if err == nil {
			return nil
		}
		oldest := s.longestUnused(h.principal)
		if oldest == nil {
			return err
		}
		oldest.end(ErrUnused)
	}
}

func (s *Store) tryCount(h *holding, mostOfOne, most int) *Error {
	p, n := h.principal, max(len(h.server.plan.specs), 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case h.counted > 0:
		return nil
	case s.counts[p]+n > mostOfOne:
		return &Error{Reason: ReasonBound, RetryAfter: time.Second, Err: fmt.Errorf(
			"the client has %d credentials in use, and the server needs %d more: max_leases_per_client of the block upstream_credentials allows %d", s.counts[p], n, mostOfOne)}
	case s.total+n > most:
		return &Error{Reason: ReasonBound, RetryAfter: time.Second, Err: fmt.Errorf(
			"the gateway has %d credentials in use, and the server needs %d more: max_leases of the block upstream_credentials allows %d", s.total, n, most)}
	}
	s.counts[p] += n
	s.total += n
	h.counted = n
	return nil
}

func (s *Store) uncount(h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uncountLocked(h)
}

// uncountLocked undoes count. s.mu is held.
func (s *Store) uncountLocked(h *holding) {
	s.total -= h.counted
	if s.counts[h.principal] -= h.counted; s.counts[h.principal] <= 0 {
		delete(s.counts, h.principal)
	}
	h.counted = 0
}

// longestUnused returns what nobody uses at present, and was used longest ago: of the
// principal if it has something, else of anybody; nil if all are in use.
func (s *Store) longestUnused(p grants.Principal) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := oldest(s.holdings[p]); h != nil {
		return h
	}
	var found *holding
	for _, all := range s.holdings {
		if h := oldest(all); h != nil && (found == nil || h.used.Load() < found.used.Load()) {
			found = h
		}
	}
	return found
}

func oldest(all map[*holding]struct{}) *holding {
	var found *holding
	for h := range all {
		if set := h.current.Load(); set == nil || set.inUse() {
			continue
		}
		if found == nil || h.used.Load() < found.used.Load() {
			found = h
		}
	}
	return found
}
