package credentials

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// run keeps the credentials until the holding has ended, and its sets are no longer
// used.
func (h *holding) run() {
	store := h.server.store
	defer func() {
		store.remove(h)
		h.server.forgetRetired(h)
	}()
	for wanted := true; !h.isOver(); wanted = h.sleep(h.next(store.now())) {
		now := store.now()
		switch set := h.current.Load(); {
		case set != nil:
			h.keep(now, set)
		case wanted && h.mayTry(now):
			h.obtain()
		}
		h.keepEarlier(store.now())
		h.endIfUnused(store.now())
	}
}

// sleep waits until then, and reports whether it was woken before.
func (h *holding) sleep(d time.Duration) (woken bool) {
	if h.isOver() {
		return false
	}
	timer := time.NewTimer(d)
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
	if set := h.take(); set == nil || !h.install(set) {
		h.server.store.uncount(h)
	}
}

// take takes everything from Vault, and makes a set of it; nil if that failed, or the holding
// has ended.
func (h *holding) take() *Set {
	l := newLease(h.server.store)
	h.mu.Lock()
	ended := h.ended != nil
	h.minting = l
	h.mu.Unlock()
	if ended {
		return nil
	}
	// Not a request's context: a client may hang up, and the answer must be known all the
	// same, to be used or to be given back.
	ctx, cancel := context.WithTimeout(context.Background(), mintTimeout)
	defer cancel()
	err := h.fill(ctx, l)
	h.mu.Lock()
	h.minting = nil
	ended = h.ended != nil
	h.mu.Unlock()
	var set *Set
	if err == nil && !ended {
		set, err = h.setOf(l, l.values)
	}
	switch {
	case set != nil:
		h.server.store.observer.CredentialsMinted()
		return set
	case !ended:
		h.fail(err)
	}
	l.abandon()
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

// keep does the due work for the credentials that new requests get.
func (h *holding) keep(now time.Time, set *Set) {
	switch {
	case set.lease.hasEnded(now):
		h.drop(set)
		return
	case h.isReread():
		h.replace(set, true)
		h.endReread()
		return
	case h.isReset(now):
		h.replace(set, false)
		return
	}
	if names := set.lease.dueReadings(now); len(names) > 0 {
		h.readAgain(now, set, names)
	}
	for _, t := range set.lease.terms {
		if h.current.Load() != set {
			return
		}
		if clock.Reached(now, t.due) && !h.extend(now, set.lease, t) {
			h.replaceFor(now, t, set)
		}
	}
}

// keepEarlier keeps the credentials of requests that began with them, until they end in
// Vault.
func (h *holding) keepEarlier(now time.Time) {
	current := h.current.Load()
	for _, set := range h.earlier() {
		if set.lease.hasEnded(now) {
			set.end(ErrEnded)
			continue
		}
		if current != nil && current.lease == set.lease {
			continue
		}
		for _, t := range set.lease.terms {
			if clock.Reached(now, t.due) && !h.extend(now, set.lease, t) {
				t.due = t.ends
			}
		}
	}
}

// extend renews a term, and reports whether it lives on: false where it has to be replaced.
func (h *holding) extend(now time.Time, l *lease, t *term) bool {
	if t.renew == nil || t.replacing {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), mintTimeout)
	defer cancel()
	sent := h.server.store.now()
	granted, err := t.renew(ctx, t.asked)
	granted = min(granted, t.asked)
	var refused *api.ResponseError
	switch {
	case err == nil && granted >= t.asked-time.Second:
		t.failures = 0
		t.begin(sent, granted)
		l.update()
		return true
	case err == nil && granted > 0:
		// Granted less than asked: its maximum is near.
		t.sent, t.ends = sent, sent.Add(granted)
		l.update()
	case err == nil:
	case errors.As(err, &refused) && refused.StatusCode < http.StatusInternalServerError && !vaultclient.IsLater(refused):
		h.server.store.log.Warn("Vault does not renew a credential: taking another", "server", h.server.of.Name,
			"client", h.grant.Load().Client, "what", t.what, "status", refused.StatusCode)
	default:
		t.failures++
		t.due = now.Add(min(retries.After(t.failures), max(t.ends.Sub(now)/4, retryMin)))
		return true
	}
	t.replacing = true
	return false
}

// replaceFor replaces the set because of one term. It tries again later if it cannot.
func (h *holding) replaceFor(now time.Time, t *term, set *Set) {
	if !h.replace(set, false) {
		t.failures++
		t.due = now.Add(retries.After(t.failures))
	}
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
	return h.install(next)
}

// readAgain reads credentials without a lease, under the same token. A secret that is gone
// ends the set.
func (h *holding) readAgain(now time.Time, set *Set, names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), mintTimeout)
	defer cancel()
	l, fresh := set.lease, set.lease.values
	for _, name := range names {
		secret, err := h.ask(ctx, l, name)
		switch {
		case err == nil && secret.LeaseID != "":
			// It has a lease by now, so all of it is taken in the other way.
			l.readings[name].due = now.Add(retryMax)
			h.replace(set, false)
			return
		case err == nil:
			fresh = fresh.with(name, secret.Data)
			l.readings[name] = h.readingOf(name, secret)
		case err.Failure == FailureUnavailable || err.Failure == FailureSealed || err.Failure == FailureEnded:
			l.readings[name].failures++
			l.readings[name].due = now.Add(retries.After(l.readings[name].failures))
		default:
			h.drop(set)
			h.fail(err)
			return
		}
	}
	l.update()
	next, err := h.setOf(l, fresh)
	switch {
	case err != nil:
		h.drop(set)
		h.fail(err)
	case set.sameAs(next):
		next.end(ErrReplaced) // the set before it keeps the lease
	default:
		l.values = fresh
		h.install(next)
	}
}

// endIfUnused ends the holding after idle_timeout without a use, and where the token that was
// issued to the client has expired.
func (h *holding) endIfUnused(now time.Time) {
	if h.isEnded() {
		return
	}
	store := h.server.store
	if g := h.grant.Load(); !g.Leased && g.Expired(now) && !store.live(h.principal) {
		h.end(ErrLost)
		return
	}
	set, limit := h.current.Load(), failedFor
	if set != nil {
		if set.inUse() {
			return
		}
		limit = store.idleTimeout()
	}
	if h.unusedFor(now) >= limit {
		h.retire()
	}
}

// next is the time until something is due.
func (h *holding) next(now time.Time) time.Duration {
	const least, most = 100 * time.Millisecond, time.Minute
	wait := most
	at := func(t time.Time) {
		if !t.IsZero() {
			wait = min(wait, t.Sub(now))
		}
	}
	if set := h.current.Load(); set != nil {
		at(set.lease.next())
		h.mu.Lock()
		at(h.reset)
		h.mu.Unlock()
		idle := h.server.store.idleTimeout()
		left := idle - h.unusedFor(now)
		if set.inUse() {
			left = max(left, idle/4) // nothing tells when that is over
		}
		at(now.Add(left))
	}
	for _, set := range h.earlier() {
		at(set.lease.next())
	}
	if g := h.grant.Load(); !g.Leased && !g.ExpiresAt.IsZero() && !g.Expired(now) {
		at(g.ExpiresAt)
	}
	return max(wait, least)
}

// spread is a random part of a time, so that not everything is replaced at once.
func spread(d time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(max(d, 1)))) //nolint:gosec // spreading load needs no secrecy
}

// sameAs reports whether two sets would send the same.
func (s *Set) sameAs(o *Set) bool {
	return maps.EqualFunc(s.header, o.header, slices.Equal[[]string]) && maps.Equal(s.env, o.env) && maps.Equal(s.files, o.files)
}
