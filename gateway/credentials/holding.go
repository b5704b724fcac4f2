package credentials

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// holding keeps the credentials of one principal at one server: it takes them from Vault,
// renews and replaces them, and gives them back. One goroutine, run, does all of that, so
// that nothing is asked twice.
type holding struct {
	server    *Server
	principal grants.Principal
	before    *holding // retired; its users get this one's sets. Nil: none is left

	current atomic.Pointer[Set]          // for new requests; nil: there is none
	grant   atomic.Pointer[grants.Grant] // the newest of those that requests came with
	used    atomic.Int64                 // second of the last request, by the store's clock

	wake chan struct{} // holds a value while run has something to look at

	mu       sync.Mutex
	ended    error             // why; nil while it goes on
	failure  *Error            // of the last attempt; nil: it succeeded, or there was none
	failures int               // in a row
	retryAt  time.Time         // until then a failure is the answer
	changed  chan struct{}     // closed, and replaced, with every change of the above and of current
	old      map[*Set]struct{} // earlier sets that requests under way use
	minting  *lease            // that is being taken from Vault; nil: none is
	reset    time.Time         // when everything is to be taken again; zero: it need not be

	reread   bool // a server has refused the credentials
	rereadAt time.Time

	counted int // credentials that count in the bounds; guarded by the store's lock
}

const (
	// retryMin and retryMax are between attempts that failed.
	retryMin = time.Second
	retryMax = time.Minute

	// rereadEvery is the least time between two reads because a server refuses its
	// credentials, and rereadWait is how long a request waits for one.
	rereadEvery = 30 * time.Second
	rereadWait  = 5 * time.Second

	// failedFor is how long a failure is remembered after the last request.
	failedFor = 2 * time.Minute

	// awaitTimeout is how long a request waits for Vault. The holding's work goes on after
	// that.
	awaitTimeout = 10 * time.Second

	// mintTimeout bounds all requests of one attempt.
	mintTimeout = 60 * time.Second
)

var retries = backoff.Backoff{Min: retryMin, Max: retryMax}

func newHolding(s *Server, principal grants.Principal, grant *grants.Grant) *holding {
	h := &holding{server: s, principal: principal, wake: make(chan struct{}, 1), changed: make(chan struct{}), old: make(map[*Set]struct{})}
	h.grant.Store(grant)
	h.used.Store(s.store.second(s.store.now()))
	return h
}

// markUsed notes a request. It writes only if the value differs: a needless write would take
// the cache line away from the other cores. It reports false if Vault has given the client
// other rights to credentials since these were read, or if they were read under another name
// of the person.
func (h *holding) markUsed(grant *grants.Grant, now time.Time) bool {
	held := h.grant.Load()
	if held != grant && !grant.SamePerson(held) {
		return false // whichever is newer: at another login they may have other secrets
	}
	if held != grant && grant.NewerThan(held) {
		if !grant.SameUpstreamRights(held) {
			return false
		}
		h.grant.Store(grant)
	}
	if second := h.server.store.second(now); h.used.Load() != second {
		h.used.Store(second)
	}
	return true
}

// unusedFor returns how long ago the last request was.
func (h *holding) unusedFor(now time.Time) time.Duration {
	return time.Duration(h.server.store.second(now)-h.used.Load()) * time.Second
}

func (h *holding) isEnded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended != nil
}

// isOver reports whether nothing is left to keep.
func (h *holding) isOver() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended != nil && len(h.old) == 0
}

// await waits for the credentials. It returns neither a set nor an error if the holding has
// ended for a reason that does not concern the request.
func (h *holding) await(ctx context.Context) (*Set, error) {
	timer := time.NewTimer(awaitTimeout)
	defer timer.Stop()
	for {
		h.mu.Lock()
		now, ended, failure, left, changed := h.server.store.now(), h.ended, h.failure, h.retryAt, h.changed
		h.mu.Unlock()
		if set := h.current.Load(); set != nil && set.usable(now) {
			return set, nil
		}
		switch {
		case errors.Is(ended, ErrUnused):
			return nil, nil //nolint:nilnil // see above
		case ended != nil:
			return nil, &Error{Failure: FailureEnded, Err: ended, RetryAfter: retryMin}
		case failure != nil && now.Before(left):
			again := *failure
			again.RetryAfter = left.Sub(now)
			return nil, &again
		}
		h.poke()
		select {
		case <-changed:
		case <-timer.C:
			return nil, &Error{Failure: FailureUnavailable, Err: errUnreachable, RetryAfter: retryMin}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// poke makes run check its work.
func (h *holding) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// tell wakes those who wait for a change. h.mu is held.
func (h *holding) tell() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// end gives all credentials back, and cuts requests in flight. Credentials that Vault is
// about to answer are given back when the answer comes.
func (h *holding) end(cause error) {
	h.mu.Lock()
	if h.ended == nil {
		h.ended = cause
	}
	sets := slices.Collect(maps.Keys(h.old))
	clear(h.old)
	if set := h.current.Swap(nil); set != nil {
		sets = append(sets, set)
	}
	minting := h.minting
	h.tell()
	h.mu.Unlock()
	for _, set := range sets {
		set.end(cause)
	}
	if minting != nil {
		minting.abandon()
	}
	h.server.forget(h)
	h.server.store.remove(h)
	h.poke()
}

// retire gives everything back once the requests under way are over. Until then the end of
// access finds them.
func (h *holding) retire() {
	h.mu.Lock()
	if h.ended != nil {
		h.mu.Unlock()
		return
	}
	h.ended = ErrUnused
	set := h.current.Swap(nil)
	if set != nil {
		h.old[set] = struct{}{}
	}
	minting := h.minting
	h.tell()
	h.mu.Unlock()
	h.server.keepRetired(h)
	h.server.forget(h)
	if set != nil {
		set.onGivenBack(func() { go h.forgetOld(set) }) // the set's lock is held
		set.retire()
	}
	if minting != nil {
		minting.abandon()
	}
	h.poke()
}

// install puts a new set in place, and reports whether it has: the holding may have ended. The
// previous set serves the requests in flight.
func (h *holding) install(set *Set) bool {
	h.mu.Lock()
	if h.ended != nil {
		h.mu.Unlock()
		set.end(ErrLost)
		return false
	}
	old := h.current.Swap(set)
	if old != nil {
		h.old[old] = struct{}{}
	}
	h.failure, h.failures, h.reset = nil, 0, time.Time{}
	h.tell()
	h.mu.Unlock()
	if old != nil {
		old.onGivenBack(func() { go h.forgetOld(old) }) // the set's lock is held
		old.supersede(set)
	}
	for b := h.before; b != nil; b = b.before {
		for _, earlier := range b.earlier() {
			earlier.supersede(set)
		}
	}
	h.before = nil
	return true
}

// forgetOld forgets a set that is no longer in use.
func (h *holding) forgetOld(set *Set) {
	h.mu.Lock()
	delete(h.old, set)
	h.mu.Unlock()
	h.poke()
}

// earlier returns the sets that only requests under way use.
func (h *holding) earlier() []*Set {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.old))
}

// drop ends a set whose credentials have ended. The next request takes others.
func (h *holding) drop(set *Set) {
	h.mu.Lock()
	if h.current.CompareAndSwap(set, nil) {
		h.tell()
	}
	h.mu.Unlock()
	set.end(ErrEnded)
	h.server.store.uncount(h)
}

// fail notes that an attempt has failed.
func (h *holding) fail(err *Error) {
	store := h.server.store
	store.observer.CredentialsFailed(err.Failure)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures++
	pause := retries.After(h.failures)
	if h.failure == nil || h.failure.Error() != err.Error() {
		store.log.Error("cannot get the credentials of a server from Vault: trying again when they are asked for",
			"server", h.server.of.Name, "client", h.grant.Load().Client, "failure", err.Failure, "error", err, "in", pause.Round(time.Millisecond).String())
	}
	h.failure, h.retryAt = err, store.now().Add(pause)
	h.tell()
}

// mayTry reports whether the pause after a failure is over.
func (h *holding) mayTry(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended == nil && (h.failure == nil || !now.Before(h.retryAt))
}

// askAgain has the credentials read again, since the server refuses them: at most once in
// rereadEvery. It waits for the outcome, and returns other ones, if there are some.
func (h *holding) askAgain(ctx context.Context, refused *Set) *Set {
	ctx, cancel := context.WithTimeout(ctx, rereadWait)
	defer cancel()
	now := h.server.store.now()
	h.mu.Lock()
	if h.ended == nil && !h.reread && (h.rereadAt.IsZero() || now.Sub(h.rereadAt) >= rereadEvery) && h.current.Load() == refused {
		h.reread, h.rereadAt = true, now
	}
	h.mu.Unlock()
	for {
		h.mu.Lock()
		current, pending, changed := h.current.Load(), h.reread && h.ended == nil, h.changed
		h.mu.Unlock()
		switch {
		case current != nil && current != refused && !current.sameAs(refused):
			return current
		case !pending || current != refused:
			return nil
		}
		h.poke()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// isReread reports whether the credentials are to be read again because of a refusal.
func (h *holding) isReread() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reread
}

// endReread tells those who wait that they were read again.
func (h *holding) endReread() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reread = false
	h.tell()
}

// replaceAt has everything taken again at that time: the gateway has another login.
func (h *holding) replaceAt(at time.Time) {
	h.mu.Lock()
	h.reset = at
	h.mu.Unlock()
	h.poke()
}

// isReset reports whether everything is to be taken again by now.
func (h *holding) isReset(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reset.IsZero() || now.Before(h.reset) {
		return false
	}
	h.reset = now.Add(retries.After(h.failures + 1)) // in the case that this fails
	return true
}
