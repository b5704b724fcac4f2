package mcp

import (
	"sync"
	"time"
)

const (
	// maxIdleConns bounds the connections to one server that are kept open
	// without a request. More than a gateway's clients use at once is wasted;
	// fewer costs a handshake.
	maxIdleConns = 256

	// idleConnTimeout is how long they are.
	idleConnTimeout = 90 * time.Second
)

// idleConns are connections that wait for a request. The one used last is used
// next, so that those that are not needed grow old and are closed.
type idleConns struct {
	mu     sync.Mutex
	conns  []*directConn // by the time since when they wait
	timer  *time.Timer   // nil: nothing to close
	closed bool
}

// take returns a connection that the server has not closed, or nil.
func (i *idleConns) take() *directConn {
	for {
		conn := i.pop()
		if conn == nil || conn.quiet() {
			return conn
		}
		conn.abort()
	}
}

func (i *idleConns) pop() *directConn {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := len(i.conns) - 1
	if last < 0 {
		return nil
	}
	conn := i.conns[last]
	i.conns[last] = nil
	i.conns = i.conns[:last]
	return conn
}

// put keeps a connection, or closes it where there are enough.
func (i *idleConns) put(conn *directConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed || len(i.conns) >= maxIdleConns {
		conn.abort()
		return
	}
	conn.since = time.Now()
	i.conns = append(i.conns, conn)
	if i.timer == nil {
		i.timer = time.AfterFunc(idleConnTimeout, i.expire)
	}
}

// expire closes the connections that have waited for too long.
func (i *idleConns) expire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer = nil
	old, now := 0, time.Now()
	for old < len(i.conns) && now.Sub(i.conns[old].since) >= idleConnTimeout {
		i.conns[old].abort()
		old++
	}
	rest := copy(i.conns, i.conns[old:])
	clear(i.conns[rest:])
	i.conns = i.conns[:rest]
	if rest > 0 {
		i.timer = time.AfterFunc(idleConnTimeout-now.Sub(i.conns[0].since), i.expire)
	}
}

// close closes all connections, and those that come back later.
func (i *idleConns) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for _, conn := range i.conns {
		conn.abort()
	}
	i.conns = nil
	if i.timer != nil {
		i.timer.Stop()
	}
}
