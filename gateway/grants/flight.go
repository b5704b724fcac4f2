package grants

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// lookupTimeout bounds one request to the engine's lookup, a login that it
	// may need included, unless Vault hangs: see outage.
	lookupTimeout = time.Second

	// askTimeout is how long anybody waits for a lookup, whatever becomes of it;
	// while Vault hangs, lookupTimeout.
	askTimeout = slotTimeout + lookupTimeout

	// lookupsInFlight bounds this gateway's lookups, so that a fleet whose
	// caches are all cold does not overrun Vault.
	lookupsInFlight = 16

	// coldInFlight is how many of them may be for unknown tokens, so that a
	// flood of these never stands in the way of known ones.
	coldInFlight = 8

	// backgroundInFlight is how many may be for requests that are already
	// running, and can wait.
	backgroundInFlight = 4

	// slotTimeout is how long a lookup waits for its turn.
	slotTimeout = 2 * time.Second

	// asks is how often an answer is asked for that turns out to be outdated.
	asks = 3

	// otherEpochPause gives the change feed time to learn of a new epoch.
	otherEpochPause = 50 * time.Millisecond
)

// ErrRateLimited: too many unknown tokens have come from the source, or from
// all of them together. Answered with 429.
var ErrRateLimited = errors.New("too many unknown tokens")

// flight is a lookup under way, and everybody who waits for it.
type flight struct {
	done chan struct{}
	err  error // valid once done is closed
}

// question is what Vault is asked about a token.
type question struct {
	key     key
	token   presented
	source  netip.Addr // who bears it
	cold    bool       // the token is not known
	doubted *Grant     // to confirm, though it may be good still; nil: ask if the token's state is not known
}

// ask has Vault confirm a token, and returns nil once its grant is in the
// cache. It joins the lookup that is under way for the token, if one is.
func (b *Broker) ask(ctx context.Context, q question) error {
	f, err := b.board(ctx, q)
	if f == nil {
		return err
	}
	bound := askTimeout
	if b.outage.hangs() {
		bound = lookupTimeout
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

// board returns the lookup to wait for, or none with the answer.
func (b *Broker) board(ctx context.Context, q question) (*flight, error) {
	b.flightsMu.Lock()
	defer b.flightsMu.Unlock()
	if f := b.flights[q.key]; f != nil {
		if b.options.Tracer != nil {
			b.options.Tracer.Joined(ctx)
		}
		return f, nil
	}
	// A lookup may have ended since the caller looked.
	if q.doubted == nil {
		if err, known := b.known(q.key, time.Now()); known {
			return nil, err
		}
	} else if q.doubted.entry.grant.Load() != q.doubted {
		return nil, nil //nolint:nilnil // the doubt is settled
	}
	if q.cold && b.options.Cold != nil && !b.options.Cold.Allow(q.source) {
		return nil, ErrRateLimited
	}
	f := &flight{done: make(chan struct{})}
	b.flights[q.key] = f
	go b.fly(context.WithoutCancel(ctx), f, q)
	return f, nil
}

// known reports whether the token's state is known, and then what it is.
func (b *Broker) known(k key, now time.Time) (err error, known bool) { //nolint:revive // the error is the answer, not a failure
	if e := b.cache.get(k); e != nil {
		g := e.grant.Load()
		return nil, g != nil && b.view.Load().usable(g, now)
	}
	sent, ok := b.negatives.Get(k)
	if ok && age(now, sent) < b.options.Grants.NegativeTTL {
		return ErrInactive, true
	}
	return nil, false
}

// fly runs a lookup for all who wait, whoever of them stays. ctx is for traces.
func (b *Broker) fly(ctx context.Context, f *flight, q question) {
	f.err = b.confirm(ctx, q)
	b.flightsMu.Lock()
	delete(b.flights, q.key)
	b.flightsMu.Unlock()
	close(f.done)
}

// confirm asks Vault until there is an answer that no change has overtaken.
func (b *Broker) confirm(ctx context.Context, q question) error {
	var err error
	for range asks {
		err = b.confirmOnce(ctx, q)
		switch {
		case errors.Is(err, errOtherEpoch):
			<-time.After(otherEpochPause)
		case errors.Is(err, errOutdated):
		default:
			return err
		}
	}
	return fmt.Errorf("%w: %w, %d times in a row", ErrUnavailable, err, asks)
}

func (b *Broker) confirmOnce(ctx context.Context, q question) error {
	release, err := b.takeSlot(q.cold)
	if err != nil {
		return err
	}
	ctx, done, err := b.outage.admit(ctx)
	if err != nil {
		release()
		return err
	}
	defer done()
	end := endNothing
	if b.options.Tracer != nil {
		end = b.options.Tracer.Lookup(ctx)
	}
	sent := time.Now()
	answer, err := b.engine.lookup(ctx, q.token)
	took := time.Since(sent)
	b.outage.saw(err) // before somebody else has the slot
	release()

	if err == nil && answer.DataKey != q.token.dataKey {
		// The engine knows better, but an older one does not know of seals.
		answer = &Lookup{Epoch: answer.Epoch, Index: answer.Index}
	}
	var g *Grant
	if err == nil && answer.Active {
		g, err = answer.grant(sent, b.terms.of)
	}
	result := resultOf(answer, err)
	end(result)
	if b.options.Observer != nil {
		b.options.Observer.LookupDone(result, took)
	}
	if errors.Is(err, errOutdated) {
		return err
	}
	b.outage.note(err)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return b.publish(q.key, answer, g, sent)
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
func resultOf(answer *Lookup, err error) string {
	switch {
	case err != nil:
		return "error"
	case answer.Active:
		return "active"
	}
	return "inactive"
}

func endNothing(string) {}
