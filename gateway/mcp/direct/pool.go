package direct

import (
	"sync"
	"time"
)

const (
	// maxIdle bounds the connections to one server that are kept open without a request.
	// More than a gateway's clients use at once is wasted; fewer costs a handshake.
	maxIdle = 256

	// idleTimeout is how long they are.
	idleTimeout = 90 * time.Second
)

// pool has connections that wait for a request. The one used last is used next, so that those that
// are not needed grow old and are closed.
type pool struct {
	mu     sync.Mutex
	conns  []*conn     // by the time since when they wait
	timer  *time.Timer // nil: nothing to close
	closed bool
}

// take returns a connection that the server has not closed, or nil.
func (p *pool) take() *conn {
	for {
		c := p.pop()
		if c == nil || c.quiet() {
			return c
		}
		c.abort()
	}
}

func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.conns) - 1
	if last < 0 {
		return nil
	}
	c := p.conns[last]
	p.conns[last] = nil
	p.conns = p.conns[:last]
	return c
}

// put keeps a connection, or closes it where there are enough.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.conns) >= maxIdle {
		c.abort()
		return
	}
	c.since = time.Now()
	p.conns = append(p.conns, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(idleTimeout, p.expire)
	}
}

// expire closes the connections that have waited for too long.
func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	old, now := 0, time.Now()
	for old < len(p.conns) && now.Sub(p.conns[old].since) >= idleTimeout {
		p.conns[old].abort()
		old++
	}
	rest := copy(p.conns, p.conns[old:])
	clear(p.conns[rest:])
	p.conns = p.conns[:rest]
	if rest > 0 {
		p.timer = time.AfterFunc(idleTimeout-now.Sub(p.conns[0].since), p.expire)
	}
}

// close closes all connections, and those that come back later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.conns {
		c.abort()
	}
	p.conns = nil
	if p.timer != nil {
		p.timer.Stop()
	}
}
