package grants

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// waitTimeout bounds the wait of a request for a lookup, whatever its result. While
	// Vault hangs, the bound is vaultclient.LookupTimeout.
	waitTimeout = slotTimeout + vaultclient.LookupTimeout

	// coldInFlight bounds the lookups in flight for unknown tokens, so that a flood of
	// these never blocks known ones.
	coldInFlight = 8

	// backgroundInFlight bounds the lookups for requests that already run, and can
	// wait.
	backgroundInFlight = 4

	// slotTimeout is how long a lookup waits for its turn.
	slotTimeout = 2 * time.Second

	// lookupTries is how often Vault is asked while its answers turn out to be outdated.
	lookupTries = 3

	// otherEpochPause gives the change feed time to learn of a new epoch.
	otherEpochPause = 50 * time.Millisecond
)

// ErrRateLimited: too many unknown tokens have come from the source, or from
// all of them together. Answered with 429.
var ErrRateLimited = errors.New("too many unknown tokens")

// Why an answer was thrown away.
var (
	errOutdated   = errors.New("the answer is older than a change that concerns it")
	errOtherEpoch = errors.New("the answer belongs to another history than the change feed")
)

// sharedRequest is a request to Vault under way, and all callers wait for the one answer.
type sharedRequest struct {
	done chan struct{}
	err  error // valid once done is closed
}

// lookupRequest is a question to Vault about a token.
type lookupRequest struct {
	key         key
	token       vaultclient.UnsealedToken
	source      netip.Addr // who bears it
	cold        bool       // the token is not known
	revalidates *Grant     // to confirm, though it may still be good; nil: ask if the token's state is not known
}

// awaitLookup has Vault confirm a token, and returns nil once its grant is in the
// cache. It joins the lookup that is under way for the token, if one is.
func (b *Broker) awaitLookup(ctx context.Context, r lookupRequest) error {
	f, err := b.joinLookup(ctx, r)
	if f == nil {
		return err
	}
	bound := waitTimeout
	if b.outage.Hangs() {
		bound = vaultclient.LookupTimeout
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.err
	case <-timer.C:
		return fmt.Errorf("%w: Vault has not answered within %s", ErrUnavailable, bound)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// joinLookup returns the lookup to wait for, or none with the answer.
func (b *Broker) joinLookup(ctx context.Context, r lookupRequest) (*sharedRequest, error) {
	b.lookupsMu.Lock()
	defer b.lookupsMu.Unlock()
	if f := b.lookups[r.key]; f != nil {
		if b.options.Tracer != nil {
			b.options.Tracer.Joined(ctx)
		}
		return f, nil
	}
	// A lookup may have ended since the caller looked.
	if r.revalidates == nil {
		if err, known := b.knownState(r.key, time.Now()); known {
			return nil, err
		}
	} else if r.revalidates.entry.grant.Load() != r.revalidates {
		return nil, nil //nolint:nilnil // another lookup has confirmed it
	}
	if r.cold && b.options.Cold != nil && !b.options.Cold.Allow(r.source) {
		return nil, ErrRateLimited
	}
	f := &sharedRequest{done: make(chan struct{})}
	b.lookups[r.key] = f
	go b.runLookup(context.WithoutCancel(ctx), f, r)
	return f, nil
}

// knownState returns the token's state, and whether the gateway knows it.
func (b *Broker) knownState(k key, now time.Time) (err error, known bool) { //nolint:revive // the error is the answer, not a failure
	if e := b.cache.get(k); e != nil {
		g := e.grant.Load()
		return nil, g != nil && b.position.Load().fresh(g, now)
	}
	sent, ok := b.negatives.Get(k)
	if ok && clock.Age(now, sent) < b.options.Grants.NegativeTTL {
		return ErrInactive, true
	}
	return nil, false
}

// runLookup runs a lookup for all who wait. It goes on though some of them leave. ctx is
// for traces.
func (b *Broker) runLookup(ctx context.Context, f *sharedRequest, r lookupRequest) {
	f.err = b.lookUp(ctx, r)
	b.lookupsMu.Lock()
	delete(b.lookups, r.key)
	b.lookupsMu.Unlock()
	close(f.done)
}

// lookUp asks Vault until there is an answer that no change has overtaken.
func (b *Broker) lookUp(ctx context.Context, r lookupRequest) error {
	var err error
	for range lookupTries {
		err = b.lookUpOnce(ctx, r)
		switch {
		case errors.Is(err, errOtherEpoch):
			<-time.After(otherEpochPause)
		case errors.Is(err, errOutdated):
		default:
			return err
		}
	}
	return fmt.Errorf("%w: %w, %d times in a row", ErrUnavailable, err, lookupTries)
}

func (b *Broker) lookUpOnce(ctx context.Context, r lookupRequest) error {
	release, err := b.takeSlot(r.cold)
	if err != nil {
		return err
	}
	ctx, done, err := b.outage.Admit(ctx)
	if err != nil {
		release()
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer done()
	end := func(string) {}
	if b.options.Tracer != nil {
		end = b.options.Tracer.Lookup(ctx)
	}
	sent := time.Now()
	answer, err := b.engine.Lookup(ctx, r.token)
	took := time.Since(sent)
	b.outage.Observe(err) // before somebody else has the slot
	release()

	if err == nil && answer.DataKey != r.token.DataKey {
		// The engine knows better, but an older one does not know of seals.
		answer = &vaultclient.Lookup{Epoch: answer.Epoch, Index: answer.Index}
	}
	var g *Grant
	if err == nil && answer.Active {
		g, err = newGrant(answer, sent, b.entitlements.get)
	}
	result := resultOf(answer, err)
	end(result)
	if b.options.Observer != nil {
		b.options.Observer.LookupDone(result, took)
	}
	if errors.Is(err, errOutdated) {
		return err
	}
	b.outage.Log(err)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return b.publish(r.key, answer, g, sent)
}

// takeSlot waits for a lookup's turn.
func (b *Broker) takeSlot(cold bool) (release func(), err error) {
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	if cold {
		select {
		case b.coldSlots <- struct{}{}:
		case <-timer.C:
			return nil, fmt.Errorf("%w: too many lookups of unknown tokens are under way", ErrUnavailable)
		}
	}
	select {
	case b.slots <- struct{}{}:
	case <-timer.C:
		if cold {
			<-b.coldSlots
		}
		return nil, fmt.Errorf("%w: too many lookups are under way", ErrUnavailable)
	}
	return func() {
		<-b.slots
		if cold {
			<-b.coldSlots
		}
	}, nil
}

// resultOf names an answer, for metrics and traces.
func resultOf(answer *vaultclient.Lookup, err error) string {
	switch {
	case err != nil:
		return "error"
	case answer.Active:
		return "active"
	}
	return "inactive"
}

// publish makes the answer to a lookup known, or throws it away. Its lock is
// the one that apply takes: each change is applied either before, and then the
// answer is compared with it, or after, and then it finds the grant.
//
// The error is nil for a grant in place, ErrInactive for a "no", and one of the
// above for an answer that must be asked for again.
func (b *Broker) publish(k key, l *vaultclient.Lookup, g *Grant, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()

	v := b.position.Load()
	if l.Epoch != v.epoch {
		if v.synced {
			return errOtherEpoch
		}
	} else if b.recent.overtake(l) {
		return errOutdated
	}

	e := b.cache.get(k)
	if g == nil || g.Expired(now) {
		if e != nil {
			b.conclude(e)
		}
		if g == nil {
			b.negatives.Add(k, now)
		}
		return ErrInactive
	}
	b.negatives.Remove(k)
	defer b.cutByRole(g)
	if e != nil {
		old := e.grant.Load()
		if old.Accessor == g.Accessor && old.ClientID == g.ClientID {
			e.replace(g)
			b.notify(End{Grant: old, Successor: g})
			return nil
		}
		// The same token, but another record of it: requests and sessions of the
		// old one must not continue under the new one.
		b.end(e, ErrInactive)
	}
	b.makeRoom(k[0])
	b.cache.add(k, g, now)
	return nil
}

// end kills an entry. Broker.mu is held.
func (b *Broker) end(e *entry, cause error) {
	if _, outlived := b.outlived[e]; outlived {
		b.endOutlived(e, cause)
		return
	}
	g := e.kill(cause)
	if g == nil {
		return
	}
	last, lost := b.cache.remove(e, g), errors.Is(cause, ErrInactive)
	if lost {
		b.loseOutlived(g, last)
	}
	b.notify(End{Grant: g, Lost: lost, Last: last})
}

// makeRoom keeps the cache within its bound, as far as live requests allow.
func (b *Broker) makeRoom(start byte) {
	for range 4 {
		if b.cache.size.Load() < int64(b.options.Grants.MaxEntries) {
			return
		}
		if e := b.cache.longestUnused(start); e != nil {
			b.evict(e)
		}
	}
}

// evict removes an entry unless a request holds it. It notifies those who have sessions or
// children for its token, since no later change reaches them. The token is as good as
// before, and may return before they hear of this: see [Grant.Stay]. Broker.mu is held.
func (b *Broker) evict(e *entry) {
	g := e.grant.Load()
	if g == nil || !e.evict() {
		return
	}
	last := b.cache.remove(e, g)
	b.notify(End{Grant: g, Last: last})
}
