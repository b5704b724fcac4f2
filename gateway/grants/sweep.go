package grants

import (
	"context"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/backoff"
)

const (
	// sweepInterval is the time between two checks of live requests. These checks cut
	// them when their token expires, and when Vault cannot confirm them any more.
	sweepInterval = 250 * time.Millisecond

	// cleanInterval is how often the rest of the cache is.
	cleanInterval = 30 * time.Second

	// idleLimit is how long a grant that nobody uses is kept.
	idleLimit = 30 * time.Minute

	// expiryGrace bounds the one lookup at a token's expiry: the lease may have been
	// renewed. After it, the token has ended without an answer.
	expiryGrace = 2 * time.Second

	// revalidationPause keeps the confirming of live requests from running hot while
	// Vault does not answer.
	revalidationPause = 50 * time.Millisecond
)

// revalidate has g, the grant of live requests, confirmed soon. Without live
// requests nothing is done: the next use will ask. Nor is anything done once
// another grant has taken the place of g: it is newer than the reason to ask.
func (b *Broker) revalidate(e *entry, g *Grant) {
	e.mu.Lock()
	wanted := e.ended == nil && !e.expired && e.live != nil && e.grant.Load() == g
	queue := wanted && e.revalidating == nil
	if wanted {
		e.revalidating = g
	}
	e.mu.Unlock()
	if queue {
		b.revalidations.push(e)
	}
}

// runRevalidations confirms the grants of live requests, one at a time.
func (b *Broker) runRevalidations(ctx context.Context) {
	for {
		e, ok := b.revalidations.pop(ctx)
		if !ok {
			return
		}
		token, unconfirmed := e.takeRevalidation()
		if token == "" {
			continue
		}
		opened, err := b.opener.open(token)
		if err == nil {
			err = b.awaitLookup(ctx, lookupRequest{key: e.key, token: opened, revalidates: unconfirmed})
		}
		if err != nil && backoff.Sleep(ctx, revalidationPause) != nil {
			return
		}
	}
}

// liveSet holds the entries that have live requests, or had some until the
// last sweep: they are all that a sweep looks at.
type liveSet struct {
	mu      sync.Mutex
	entries map[*entry]struct{}
}

func (s *liveSet) add(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = make(map[*entry]struct{})
	}
	s.entries[e] = struct{}{}
}

// each calls f for every entry with live requests, and forgets the others.
func (s *liveSet) each(f func(*entry)) {
	s.mu.Lock()
	entries := make([]*entry, 0, len(s.entries))
	for e := range s.entries {
		entries = append(entries, e)
	}
	s.mu.Unlock()
	for _, e := range entries {
		if s.forget(e) {
			continue
		}
		f(e)
	}
}

// forget drops e if nothing lives on it.
func (s *liveSet) forget(e *entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live != nil {
		return false
	}
	e.inLiveSet = false
	s.mu.Lock()
	delete(s.entries, e)
	s.mu.Unlock()
	return true
}

// runSweep checks live requests, and removes unused entries.
func (b *Broker) runSweep(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	cleaned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			b.live.each(func(e *entry) { b.inspect(e, now) })
			b.forgetOutlived()
			if now.Sub(cleaned) >= cleanInterval {
				cleaned = now
				b.clean(now)
			}
		}
	}
}

// inspect has the grant of live requests confirmed where that is due, and ends
// it where it is overdue.
func (b *Broker) inspect(e *entry, now time.Time) {
	g := e.grant.Load()
	if g == nil {
		return
	}
	if err := b.checkSeal(g); err != nil {
		b.endIf(e, g, err)
		return
	}
	if e.hasExpired() {
		b.inspectOutlived(e, g, now)
		return
	}
	v := b.position.Load()
	confirmed, ok := v.lastConfirmed(g)
	if g.Expired(now) {
		if clock.Age(now, g.ExpiresAt) > expiryGrace {
			b.concludeIf(e, g)
			return
		}
	} else {
		// While the feed is up, its last answer is at most two waits old, each of them
		// a third of maxAge at most. The rest of maxAge is for asking Vault.
		if ok && clock.Age(now, confirmed) < v.maxAge*7/10 {
			e.unconfirmedFor(now, false)
			return
		}
		asked := e.unconfirmedFor(now, true) >= v.maxAge/5
		overdue := clock.Age(now, confirmed) >= v.maxAge-sweepInterval // by the next look
		if asked && (!ok || overdue) {
			b.endIf(e, g, ErrUnavailable)
			return
		}
	}
	b.revalidate(e, g)
}

// endIf ends e unless it has got another grant by now.
func (b *Broker) endIf(e *entry, g *Grant, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.grant.Load() == g {
		b.end(e, cause)
	}
}

// concludeIf ends e by its expiry unless it has got another grant by now.
func (b *Broker) concludeIf(e *entry, g *Grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.grant.Load() == g {
		b.conclude(e)
	}
}

// clean removes grants without live requests that have expired or were not used for
// long. A grant that only has to be confirmed stays: sessions and child processes may
// depend on its token, and must hear of later changes from the feed.
func (b *Broker) clean(now time.Time) {
	for i := range shardCount {
		for _, e := range b.cache.all(i) {
			g := e.grant.Load()
			idle := now.Unix()-int64(e.used.Load()) > int64(idleLimit/time.Second)
			if g == nil || !idle && !g.Expired(now) {
				continue
			}
			b.mu.Lock()
			switch {
			case e.grant.Load() != g:
			case g.Expired(now) && g.Leased && !e.hasLive(): // else Vault is asked first
				b.conclude(e)
			default:
				b.evict(e)
			}
			b.mu.Unlock()
		}
	}
}
