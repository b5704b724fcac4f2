package bridge

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// Pool bounds the channels of several bridges together. A channel counts until it is
// gone, since a child process may need time to end.
type Pool struct {
	mu             sync.Mutex
	max, perClient int // 0: no bound
	slots          map[*slot]struct{}
	own            map[grants.Principal]int           // slots
	starts         map[grants.Principal]*rate.Limiter // of each one's channels
}

const (
	// startRate and startBurst bound how fast one client may start channels.
	// Without them, a client could start one with each handshake that differs a
	// little from the last.
	startRate  = 5 // a second
	startBurst = 50

	// maxLimiters bounds the clients with a limiter.
	maxLimiters = 1024

	// slotTimeout is how long a new channel waits until another one has ended and
	// its place is free.
	slotTimeout = 30 * time.Second
)

// NewPool returns a pool of at most total channels, and perClient for one client.
// Shared channels count as one client's.
func NewPool(total, perClient int) *Pool {
	return &Pool{
		max: total, perClient: perClient,
		slots: make(map[*slot]struct{}), own: make(map[grants.Principal]int), starts: make(map[grants.Principal]*rate.Limiter),
	}
}

// Resize changes the bounds, for channels to come.
func (p *Pool) Resize(total, perClient int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.max, p.perClient = total, perClient
}

// slot is the right to have one channel. The pool's lock guards it.
type slot struct {
	pool      *Pool
	principal grants.Principal
	channel   *channel // nil before the channel starts
	ending    bool     // the channel has begun to end
	freed     bool
	waiter    *waiter // gets the place next; nil: the first who comes
}

// waiter waits for the place of a channel that ends.
type waiter struct {
	principal grants.Principal
	slot      chan *slot // holds one
}

// acquire returns a slot for the client. If none is left, it ends the channel that was
// idle for the longest time, and waits until that is gone. If none is idle, the error
// is [ErrFull].
func (p *Pool) acquire(ctx context.Context, principal grants.Principal) (*slot, error) {
	if wait := p.startDelay(principal); wait > 0 {
		return nil, &BackoffError{Wait: wait}
	}
	for {
		free, victim, w := p.tryAcquire(principal)
		switch {
		case free != nil:
			return free, nil
		case victim == nil:
			return nil, ErrFull
		case victim.channel.endIdle():
			return w.wait(ctx, victim)
		}
		p.stopWaiting(victim) // a request uses it by now
	}
}

// tryAcquire returns a slot, or else the slot to wait for, with its waiter.
func (p *Pool) tryAcquire(principal grants.Principal) (free, victim *slot, w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.perClient > 0 && p.own[principal] >= p.perClient:
		victim = p.victim(func(s *slot) bool { return s.principal == principal })
	case p.max > 0 && len(p.slots) >= p.max:
		victim = p.victim(func(*slot) bool { return true })
	default:
		return p.add(principal), nil, nil
	}
	if victim != nil {
		w = &waiter{principal: principal, slot: make(chan *slot, 1)}
		victim.waiter = w
	}
	return nil, victim, w
}

// add makes a slot. p.mu is held.
func (p *Pool) add(principal grants.Principal) *slot {
	s := &slot{pool: p, principal: principal}
	p.slots[s] = struct{}{}
	p.own[principal]++
	return s
}

// victim returns one of the wanted slots without a waiter: one whose channel ends
// already, or else the one that was idle for the longest time. p.mu is held.
func (p *Pool) victim(wanted func(*slot) bool) *slot {
	var found *slot
	var unused time.Time
	for s := range p.slots {
		if s.waiter != nil || s.channel == nil || !wanted(s) {
			continue
		}
		if s.ending {
			return s
		}
		if since, idle := s.channel.idleSince(); idle && (found == nil || since.Before(unused)) {
			found, unused = s, since
		}
	}
	return found
}

// stopWaiting removes the waiter from a slot whose channel continues.
func (p *Pool) stopWaiting(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.waiter = nil
}

// wait returns a new slot once the other one is released.
func (w *waiter) wait(ctx context.Context, from *slot) (*slot, error) {
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	err := ErrFull
	select {
	case s := <-w.slot:
		return s, nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	from.pool.stopWaiting(from)
	select {
	case s := <-w.slot: // it came meanwhile
		s.release()
	default:
	}
	return nil, err
}

// startDelay counts a start, and returns how long the client must wait before it.
func (p *Pool) startDelay(principal grants.Principal) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	limiter := p.starts[principal]
	if limiter == nil {
		if len(p.starts) >= maxLimiters {
			for other, l := range p.starts {
				if l.Tokens() >= startBurst {
					delete(p.starts, other)
				}
			}
		}
		limiter = rate.NewLimiter(startRate, startBurst)
		p.starts[principal] = limiter
	}
	if limiter.Allow() {
		return 0
	}
	return time.Second / startRate
}

// use binds the slot to its channel.
func (s *slot) use(ch *channel) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.channel = ch
}

// end notes that the channel has begun to end.
func (s *slot) end() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.ending = true
}

// release gives the slot back. It may be called more than once.
func (s *slot) release() {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.freed {
		return
	}
	s.freed = true
	delete(p.slots, s)
	if p.own[s.principal]--; p.own[s.principal] == 0 {
		delete(p.own, s.principal)
	}
	if s.waiter != nil {
		s.waiter.slot <- p.add(s.waiter.principal)
		s.waiter = nil
	}
}

// Size is the number of channels, including those that are ending.
func (p *Pool) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots)
}
