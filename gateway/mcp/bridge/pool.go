package bridge

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Pool bounds the channels of several bridges together. A channel counts until it is
// gone: a child process that has been told to end may take its time.
type Pool struct {
	mu             sync.Mutex
	max, perClient int // 0: no bound
	slots          map[*slot]struct{}
	own            map[string]int           // slots, by client
	starts         map[string]*rate.Limiter // of each client's channels
}

const (
	// startRate and startBurst bound how fast one client may have channels
	// made: a handshake that is a little different each time makes another one
	// each time.
	startRate  = 5 // a second
	startBurst = 50

	// maxLimiters bounds the clients whose starts are counted.
	maxLimiters = 1024

	// slotTimeout is how long a new channel waits for another one to end, so that it
	// can take its place.
	slotTimeout = 30 * time.Second
)

// NewPool returns a pool of at most total channels, and perClient for one client.
// Shared channels count as one client's.
func NewPool(total, perClient int) *Pool {
	return &Pool{
		max: total, perClient: perClient,
		slots: make(map[*slot]struct{}), own: make(map[string]int), starts: make(map[string]*rate.Limiter),
	}
}

// Resize changes the bounds, for channels to come.
func (p *Pool) Resize(total, perClient int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.max, p.perClient = total, perClient
}

// slot is the right to have one channel. It is guarded by the pool's lock.
type slot struct {
	pool   *Pool
	client string
	peer   *peer // nil until the channel is being made
	ending bool  // the channel was told to end
	freed  bool
	heir   *heir // who gets the place; nil: anybody
}

// heir waits for the place of a channel that ends.
type heir struct {
	client string
	slot   chan *slot // holds one
}

// take returns a slot for the client. If there is none left it ends the channel that
// was unused for the longest time, and waits until that is gone; if none is unused,
// it is [ErrFull].
func (p *Pool) take(ctx context.Context, client string) (*slot, error) {
	if wait := p.count(client); wait > 0 {
		return nil, &BackoffError{Wait: wait}
	}
	for {
		free, victim, h := p.tryTake(client)
		switch {
		case free != nil:
			return free, nil
		case victim == nil:
			return nil, ErrFull
		case victim.peer.endIdle():
			return h.wait(ctx, victim)
		}
		p.disown(victim) // somebody uses it by now
	}
}

// tryTake returns a slot, or one to wait for, and who waits.
func (p *Pool) tryTake(client string) (free, victim *slot, h *heir) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.perClient > 0 && p.own[client] >= p.perClient:
		victim = p.victim(func(s *slot) bool { return s.client == client })
	case p.max > 0 && len(p.slots) >= p.max:
		victim = p.victim(func(*slot) bool { return true })
	default:
		return p.add(client), nil, nil
	}
	if victim != nil {
		h = &heir{client: client, slot: make(chan *slot, 1)}
		victim.heir = h
	}
	return nil, victim, h
}

// add makes a slot. p.mu is held.
func (p *Pool) add(client string) *slot {
	s := &slot{pool: p, client: client}
	p.slots[s] = struct{}{}
	p.own[client]++
	return s
}

// victim returns one of the slots that are asked for that nobody waits for yet: one
// whose channel ends already, or else the one that was idle for the longest time.
// p.mu is held.
func (p *Pool) victim(wanted func(*slot) bool) *slot {
	var found *slot
	var unused time.Time
	for s := range p.slots {
		if s.heir != nil || s.peer == nil || !wanted(s) {
			continue
		}
		if s.ending {
			return s
		}
		if since, idle := s.peer.idleSince(); idle && (found == nil || since.Before(unused)) {
			found, unused = s, since
		}
	}
	return found
}

// disown takes the heir from a slot whose channel goes on.
func (p *Pool) disown(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.heir = nil
}

// wait returns the slot that the end of another one makes free.
func (h *heir) wait(ctx context.Context, from *slot) (*slot, error) {
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	err := ErrFull
	select {
	case s := <-h.slot:
		return s, nil
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	from.pool.disown(from)
	select {
	case s := <-h.slot: // it came meanwhile
		s.release()
	default:
	}
	return nil, err
}

// count counts a start, and returns how long the client has to wait with it.
func (p *Pool) count(client string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	limiter := p.starts[client]
	if limiter == nil {
		if len(p.starts) >= maxLimiters {
			for other, l := range p.starts {
				if l.Tokens() >= startBurst {
					delete(p.starts, other)
				}
			}
		}
		limiter = rate.NewLimiter(startRate, startBurst)
		p.starts[client] = limiter
	}
	if limiter.Allow() {
		return 0
	}
	return time.Second / startRate
}

// use binds the slot to its channel.
func (s *slot) use(p *peer) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.peer = p
}

// end notes that the channel was told to end.
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
	if p.own[s.client]--; p.own[s.client] == 0 {
		delete(p.own, s.client)
	}
	if s.heir != nil {
		s.heir.slot <- p.add(s.heir.client)
		s.heir = nil
	}
}

// Size is the number of channels, those included that are ending.
func (p *Pool) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots)
}
