package credentials

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// holding keeps the credentials of one principal at one server: it takes them from Vault,
// renews and replaces them, and gives them back. One goroutine, run, does all of that, so
// that nothing is asked twice.
type holding struct {
	server    *Server
	principal grants.Principal

	current atomic.Pointer[Set]          // for new requests; nil: there is none
	grant   atomic.Pointer[grants.Grant] // of the last request
	used    atomic.Int64                 // unix seconds of the last request

	wake chan struct{} // holds a value while run has something to look at

	mu      sync.Mutex
	ended   error             // why; nil while it goes on
	failure *Error            // of the last attempt; nil: it succeeded, or there was none
	retryAt time.Time         // until then a failure is the answer
	changed chan struct{}     // closed, and replaced, with every change of the above and of current
	old     map[*Set]struct{} // earlier sets that requests under way use
	reread  bool              // a server has refused the credentials
	rereadAt,
	reset time.Time // when that was last done, and when everything is to be taken again

	// For run alone.
	lease     *lease
	failures  int
	refreshAt time.Time

	counted int // credentials that count in the bounds; guarded by the store's lock
}

const (
	// retryMin and retryMax are between attempts that failed.
	retryMin = time.Second
	retryMax = time.Minute

	// rereadEvery is the least time between two readings because a server refuses what it got.
	rereadEvery = 30 * time.Second

	// failedFor is how long a failure is remembered after the last request.
	failedFor = 2 * time.Minute

	// mintTimeout bounds all requests of one attempt.
	mintTimeout = 60 * time.Second
)

var retries = backoff.Backoff{Min: retryMin, Max: retryMax}

func newHolding(s *Server, principal grants.Principal, grant *grants.Grant) *holding {
	h := &holding{server: s, principal: principal, wake: make(chan struct{}, 1), changed: make(chan struct{}), old: make(map[*Set]struct{})}
	h.markUsed(grant, s.store.now())
	return h
}

// markUsed notes a request. It writes only what is not so already: a write that is not needed
// would take the cache line away from the other cores.
func (h *holding) markUsed(grant *grants.Grant, now time.Time) {
	if h.grant.Load() != grant {
		h.grant.Store(grant)
	}
	if second := now.Unix(); h.used.Load() != second {
		h.used.Store(second)
	}
}

func (h *holding) isEnded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended != nil
}

// await waits for the credentials. It returns neither a set nor an error if the holding has
// ended for a reason that does not concern the request.
func (h *holding) await(ctx context.Context) (*Set, error) {
	for {
		h.mu.Lock()
		now, ended, failure, changed := h.server.store.now(), h.ended, h.failure, h.changed
		waits := failure != nil && now.Before(h.retryAt)
		left := h.retryAt.Sub(now)
		h.mu.Unlock()
		if set := h.current.Load(); set != nil && set.usable(now) {
			return set, nil
		}
		switch {
		case errors.Is(ended, ErrUnused):
			return nil, nil //nolint:nilnil // see above
		case ended != nil:
			return nil, &Error{Reason: ReasonEnded, Err: ended, RetryAfter: retryMin}
		case waits:
			again := *failure
			again.RetryAfter = left
			return nil, &again
		}
		h.poke()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// poke has run look at what there is to do.
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

// end gives everything back, and cuts what is under way. What is under way at Vault is given
// back when its answer comes.
func (h *holding) end(cause error) {
	h.mu.Lock()
	if h.ended == nil {
		h.ended = cause
	}
	sets := slices.Collect(maps.Keys(h.old))
	if set := h.current.Swap(nil); set != nil {
		sets = append(sets, set)
	}
	h.tell()
	h.mu.Unlock()
	for _, set := range sets {
		set.end(cause)
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
	h.tell()
	h.mu.Unlock()
	h.server.forget(h)
	if set == nil {
		h.server.store.remove(h)
	} else {
		h.keepOld(set)
		set.retire()
	}
	h.poke()
}

// keepOld notes a set that only the requests under way use.
func (h *holding) keepOld(set *Set) {
	h.mu.Lock()
	h.old[set] = struct{}{}
	h.mu.Unlock()
	stop := h.server.store.expire(set)
	set.onGivenBack(func() {
		stop()
		go h.forgetOld(set) // the set's lock is held
	})
}

// forgetOld forgets a set that nobody uses any more.
func (h *holding) forgetOld(set *Set) {
	h.mu.Lock()
	delete(h.old, set)
	over := h.ended != nil && len(h.old) == 0
	h.mu.Unlock()
	if over {
		h.server.store.remove(h)
	}
}

// put makes the set the one for new requests, unless the holding has ended.
func (h *holding) put(set *Set) (old *Set, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil {
		return nil, false
	}
	h.failure, h.failures = nil, 0
	old = h.current.Swap(set)
	h.tell()
	return old, true
}

// fail notes that an attempt has failed.
func (h *holding) fail(err *Error) {
	h.failures++
	h.server.store.observer.CredentialsFailed(err.Reason)
	h.mu.Lock()
	defer h.mu.Unlock()
	pause := retries.After(h.failures)
	if h.failure == nil || h.failure.Error() != err.Error() {
		h.server.store.log.Error("cannot get the credentials of a server from Vault: trying again when they are asked for",
			"server", h.server.of.Name, "client", h.grant.Load().Client, "reason", err.Reason, "error", err, "in", pause.Round(time.Millisecond).String())
	}
	h.failure, h.retryAt = err, h.server.store.now().Add(pause)
	h.tell()
}

// mayTry reports whether the pause after a failure is over.
func (h *holding) mayTry(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended == nil && (h.failure == nil || !now.Before(h.retryAt))
}

// run keeps the credentials until the holding ends.
func (h *holding) run() {
	defer h.server.store.uncount(h)
	for wanted := true; !h.isEnded(); {
		now := h.server.store.now()
		switch set := h.current.Load(); {
		case set == nil && wanted && h.mayTry(now):
			h.obtain()
		case set != nil:
			h.keep(now, set)
		}
		if !h.isEnded() {
			h.endIfUnused(h.server.store.now())
		}
		if h.isEnded() {
			return
		}
		wanted = h.sleep(h.next(h.server.store.now()))
	}
}

// sleep waits until then, and reports whether somebody has woken it before.
func (h *holding) sleep(d time.Duration) (woken bool) {
	timer := time.NewTimer(max(d, time.Millisecond))
	defer timer.Stop()
	select {
	case <-h.wake:
		return true
	case <-timer.C:
		return false
	}
}

// obtain takes the credentials from Vault for the first time, or after they have ended.
func (h *holding) obtain() {
	if err := h.server.store.count(h); err != nil {
		h.fail(err)
		return
	}
	if set := h.take(); set != nil {
		h.install(set)
	} else {
		h.server.store.uncount(h)
	}
}

// take mints a lease and makes a set of it; nil if that failed.
func (h *holding) take() *Set {
	// Not a request's context: whoever asked may hang up, and the answer must be known all
	// the same, to be used or to be given back.
	ctx, cancel := context.WithTimeout(context.Background(), mintTimeout)
	defer cancel()
	l, err := h.mint(ctx)
	if err == nil {
		var set *Set
		if set, err = h.setOf(l, l.values); err == nil {
			h.server.store.observer.CredentialsMinted()
			return set
		}
		h.server.store.revoker.add(l)
	}
	h.fail(err)
	return nil
}

// setOf renders the values of a lease.
func (h *holding) setOf(l *lease, v values) (*Set, *Error) {
	texts, err := h.server.plan.render(v)
	if err != nil {
		return nil, err
	}
	return newSet(texts, l, h.askAgain), nil
}

// install puts a new set in place. The one before it serves what is under way.
func (h *holding) install(set *Set) {
	old, ok := h.put(set)
	if !ok {
		set.end(ErrLost) // access ended while Vault was asked
		return
	}
	h.lease, h.refreshAt = set.lease, time.Time{}
	if after := h.server.plan.refreshAfter(set.lease); after > 0 {
		h.refreshAt = h.server.store.now().Add(jitter(after))
	}
	if old != nil {
		h.keepOld(old)
		old.supersede(set)
		if h.isEnded() {
			old.end(ErrLost) // access ended meanwhile
		}
	}
}

// keep does what is due for the credentials that there are.
func (h *holding) keep(now time.Time, set *Set) {
	switch {
	case set.hasEnded(now), h.lease.parent.Refused():
		h.drop(set)
		return
	case h.isReread():
		h.replace(set, true)
		h.endReread()
		return
	case h.isReset(now):
		h.replace(set, false)
		return
	case !h.refreshAt.IsZero() && clock.Reached(now, h.refreshAt):
		h.readAgain(set)
	}
	for _, t := range h.lease.terms {
		if clock.Reached(now, t.due) && h.extend(now, t, set) {
			return
		}
	}
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

// extend renews a term, or replaces the whole where it cannot live longer. It reports whether
// it has replaced it.
func (h *holding) extend(now time.Time, t *term, set *Set) (replaced bool) {
	if t.renew == nil || t.replacing {
		return h.replaceFor(now, t, set)
	}
	ctx, cancel := context.WithTimeout(context.Background(), mintTimeout)
	defer cancel()
	sent := h.server.store.now()
	granted, err := t.renew(ctx, t.asked)
	var refused *api.ResponseError
	switch {
	case err == nil && granted >= t.asked-time.Second:
		t.failures = 0
		t.begin(sent, granted)
		set.prolong()
		return false
	case err == nil:
		// Granted less than asked: its maximum is near.
		if granted > 0 {
			t.sent, t.ends = sent, sent.Add(granted)
			set.prolong()
		}
	case errors.As(err, &refused) && refused.StatusCode < http.StatusInternalServerError && !isLater(refused):
		h.server.store.log.Warn("Vault does not renew a credential: taking another", "server", h.server.of.Name,
			"client", h.grant.Load().Client, "what", t.what, "status", refused.StatusCode)
	default:
		t.failures++
		t.due = now.Add(min(retries.After(t.failures), max(t.ends.Sub(now)/4, retryMin)))
		return false
	}
	t.replacing = true
	return h.replaceFor(now, t, set)
}

// replaceFor replaces the set because of one term. It tries again later if it cannot.
func (h *holding) replaceFor(now time.Time, t *term, set *Set) bool {
	if h.replace(set, false) {
		return true
	}
	t.failures++
	t.due = now.Add(retries.After(t.failures))
	return false
}

// replace takes everything from Vault again. The set goes on if that fails, or if only other
// values are wanted and there are none.
func (h *holding) replace(set *Set, onlyOther bool) bool {
	next := h.take()
	if next == nil {
		return false
	}
	if onlyOther && set.sameAs(next) {
		next.end(ErrReplaced)
		return true
	}
	h.install(next)
	return true
}

// readAgain reads what has no lease. A secret that is gone ends the set.
func (h *holding) readAgain(set *Set) {
	ctx, cancel := context.WithTimeout(context.Background(), mintTimeout)
	defer cancel()
	fresh, err := h.refresh(ctx, h.lease)
	var next *Set
	if err == nil {
		next, err = h.setOf(h.lease, fresh)
	}
	switch {
	case err == nil && set.sameAs(next):
		next.end(ErrReplaced) // the lease has a set left
		h.refreshAt = h.server.store.now().Add(jitter(h.server.plan.refreshAfter(h.lease)))
		h.failures = 0
	case err == nil:
		h.lease.values = fresh
		h.install(next)
	case err.Reason == ReasonUnavailable || err.Reason == ReasonSealed:
		h.failures++
		h.refreshAt = h.server.store.now().Add(retries.After(h.failures))
	default:
		h.drop(set)
		h.fail(err)
	}
}

// askAgain has the credentials read again, since the server refuses them: at most once in
// rereadEvery. It waits for the outcome, and returns other ones, if there are some.
func (h *holding) askAgain(ctx context.Context, refused *Set) *Set {
	now := h.server.store.now()
	h.mu.Lock()
	if h.ended == nil && !h.reread && (h.rereadAt.IsZero() || now.Sub(h.rereadAt) >= rereadEvery) && h.current.Load() == refused {
		h.reread, h.rereadAt = true, now
	}
	h.mu.Unlock()
	for {
		h.mu.Lock()
		pending, changed := h.reread && h.ended == nil, h.changed
		h.mu.Unlock()
		if current := h.current.Load(); current != nil && current != refused && !current.sameAs(refused) {
			return current
		}
		if !pending {
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

// renewAll has everything taken again at that time: the gateway has another login.
func (h *holding) renewAll(at time.Time) {
	h.mu.Lock()
	h.reset = at
	h.mu.Unlock()
	h.poke()
}

func (h *holding) isReset(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reset.IsZero() || now.Before(h.reset) {
		return false
	}
	h.reset = now.Add(retries.After(h.failures + 1)) // in the case that this fails
	return true
}

// endIfUnused ends the holding after idle_timeout without a use, and where the token that was
// issued to the client has expired.
func (h *holding) endIfUnused(now time.Time) {
	store := h.server.store
	set := h.current.Load()
	if set != nil && !set.inUse() && now.Unix()-h.used.Load() >= int64(store.idleTimeout()/time.Second) {
		h.end(ErrUnused)
		return
	}
	if set == nil && now.Unix()-h.used.Load() >= int64(failedFor/time.Second) {
		h.end(ErrUnused)
		return
	}
	g := h.grant.Load()
	if !g.Leased && !g.ExpiresAt.IsZero() && clock.Reached(now, g.ExpiresAt) && !store.live(h.principal) {
		h.end(ErrLost)
	}
}

// next is the time until something is due.
func (h *holding) next(now time.Time) time.Duration {
	wait := time.Minute
	at := func(t time.Time) {
		if !t.IsZero() {
			wait = min(wait, t.Sub(now))
		}
	}
	if set := h.current.Load(); set != nil {
		if ends := set.ends.Load(); ends != nil {
			at(*ends)
		}
		at(h.refreshAt)
		for _, t := range h.lease.terms {
			at(t.due)
		}
		h.mu.Lock()
		at(h.reset)
		h.mu.Unlock()
		if !set.inUse() {
			at(time.Unix(h.used.Load(), 0).Add(h.server.store.idleTimeout()))
		}
	}
	if g := h.grant.Load(); !g.Leased && clock.Age(now, g.ExpiresAt) < 0 {
		at(g.ExpiresAt)
	}
	return max(wait, 10*time.Millisecond)
}

// spread is a random part of a time, so that not everything is replaced at once.
func spread(d time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(max(d, 1)))) //nolint:gosec // spreading load needs no secrecy
}

// sameAs reports whether two sets would send the same.
func (s *Set) sameAs(o *Set) bool {
	return maps.EqualFunc(s.header, o.header, slices.Equal[[]string]) && maps.Equal(s.env, o.env) && maps.Equal(s.files, o.files)
}
