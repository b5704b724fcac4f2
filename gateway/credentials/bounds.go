package credentials

import (
	"fmt"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// count counts the credentials of the holding. At a bound it ends those that were unused for
// the longest time: of the same principal, or of any principal where the gateway's bound is
// reached. Replacements count in no bound, so there may be twice as many for a while.
func (s *Store) count(h *holding) *Error {
	settings := s.settings()
	if settings == nil {
		return &Error{Failure: FailureOff, Err: errOff}
	}
	for {
		room, err := s.tryCount(h, settings.MaxLeasesPerClient, settings.MaxLeases)
		if err == nil {
			return nil
		}
		var oldest *holding
		switch room {
		case roomOfPrincipal:
			oldest = s.longestUnused(h.principal)
		case roomOfAll:
			oldest = s.longestUnusedOfAll()
		case roomOfNobody:
		}
		if oldest == nil {
			return err
		}
		oldest.retire()
		s.uncount(oldest)
	}
}

// room says whose credentials can make room for others.
type room int

const (
	roomOfNobody room = iota
	roomOfPrincipal
	roomOfAll
)

func (s *Store) tryCount(h *holding, mostOfOne, most int) (room, *Error) {
	p, n := h.principal, max(len(h.server.plan.specs), 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case h.counted > 0:
		return roomOfNobody, nil
	case n > min(mostOfOne, most):
		return roomOfNobody, &Error{Failure: FailureBound, Err: fmt.Errorf(
			"the server needs %d credentials, more than max_leases_per_client or max_leases of the block upstream_credentials allow", n)}
	case s.counts[p]+n > mostOfOne:
		return roomOfPrincipal, &Error{Failure: FailureBound, RetryAfter: time.Second, Err: fmt.Errorf(
			"the client has %d credentials in use, and the server needs %d more: max_leases_per_client of the block upstream_credentials allows %d", s.counts[p], n, mostOfOne)}
	case s.total+n > most:
		return roomOfAll, &Error{Failure: FailureBound, RetryAfter: time.Second, Err: fmt.Errorf(
			"the gateway has %d credentials in use, and the server needs %d more: max_leases of the block upstream_credentials allows %d", s.total, n, most)}
	}
	s.counts[p] += n
	s.total += n
	h.counted = n
	return roomOfNobody, nil
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

// longestUnused returns the principal's holding that is not in use and was used longest ago;
// nil if all are in use.
func (s *Store) longestUnused(p grants.Principal) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return oldest(s.holdings[p])
}

// longestUnusedOfAll is longestUnused for all principals together.
func (s *Store) longestUnusedOfAll() *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
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
