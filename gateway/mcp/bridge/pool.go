package bridge

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Pool bounds the channels of several bridges together.
type Pool struct {
	max, perClient int // 0: no bound

	mu     sync.Mutex
	slots  map[*slot]struct{}
	starts map[string]*rate.Limiter // of each client's channels
}

const (
	// startRate and startBurst bound how fast one client may have channels
	// made: a handshake that is a little different each time makes another one
	// each time.
	startRate  = 5 // a second
	startBurst = 50

	// maxLimiters bounds the clients whose starts are counted.
	maxLimiters = 1024
)

// NewPool returns a pool of at most total channels, and perClient for one client.
// Shared channels count as one client's.
func NewPool(total, perClient int) *Pool {
	return &Pool{max: total, perClient: perClient, slots: make(map[*slot]struct{}), starts: make(map[string]*rate.Limiter)}
}

// slot is the right to have one channel.
type slot struct {
	pool   *Pool
	client string
	peer   *peer // nil until the channel is being made
}

// take returns a slot for the client. If there is none left it ends the channel
// that was unused for the longest time; if none is unused, it is [ErrFull].
func (p *Pool) take(client string) (*slot, error) {
	if wait := p.count(client); wait > 0 {
		return nil, &BackoffError{Wait: wait}
	}
	for {
		p.mu.Lock()
		own := 0
		for s := range p.slots {
			if s.client == client {
				own++
			}
		}
		var candidates []*peer
		switch {
		case p.perClient > 0 && own >= p.perClient:
			candidates = p.peers(func(s *slot) bool { return s.client == client })
		case p.max > 0 && len(p.slots) >= p.max:
			candidates = p.peers(func(*slot) bool { return true })
		default:
			s := &slot{pool: p, client: client}
			p.slots[s] = struct{}{}
			p.mu.Unlock()
			return s, nil
		}
		p.mu.Unlock()
		idle := longestIdle(candidates)
		if idle == nil {
			return nil, ErrFull
		}
		idle.end(ErrClosed)
	}
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

// peers returns those of the channels that are asked for. p.mu is held.
func (p *Pool) peers(wanted func(*slot) bool) []*peer {
	var peers []*peer
	for s := range p.slots {
		if s.peer != nil && wanted(s) {
			peers = append(peers, s.peer)
		}
	}
	return peers
}

func longestIdle(peers []*peer) *peer {
	var found *peer
	for _, p := range peers {
		since, idle := p.idleSince()
		if !idle {
			continue
		}
		if found == nil {
			found = p
		} else if other, _ := found.idleSince(); since.Before(other) {
			found = p
		}
	}
	return found
}

// use binds the slot to its channel.
func (s *slot) use(p *peer) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.peer = p
}

// release gives the slot back. It may be called more than once.
func (s *slot) release() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	delete(s.pool.slots, s)
}

// Size is the number of channels.
func (p *Pool) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots)
}
