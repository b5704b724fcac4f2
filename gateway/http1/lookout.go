package http1

import (
	"slices"
	"sync"
	"time"
)

// lookoutPeriod is how often requests in flight are looked at. One that is seen twice gets a watch
// for its client's going, which must be known within 50 ms.
const lookoutPeriod = 10 * time.Millisecond

// lookout finds the requests that take long enough to be watched. Most are over before: they cost
// a look at a flag. A connection is in the list from a request on until it rests, or is watched.
// While the list is empty nothing runs.
type lookout struct {
	mu   sync.Mutex
	list []*conn
}

// add puts a connection into the list.
func (l *lookout) add(c *conn) {
	if !c.listed.CompareAndSwap(false, true) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.seen, c.rested = nil, false
	if l.list = append(l.list, c); len(l.list) == 1 {
		go l.run()
	}
}

func (l *lookout) run() {
	ticker := time.NewTicker(lookoutPeriod)
	defer ticker.Stop()
	for range ticker.C {
		if !l.look() {
			return
		}
	}
}

// look goes through the list once, and reports whether somebody is left.
func (l *lookout) look() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(c *conn) bool {
		x := c.current.Load()
		over := x == nil && c.rested || x != nil && x == c.seen
		c.seen, c.rested = x, x == nil
		if !over {
			return false
		}
		if x != nil {
			watch(x)
		}
		c.seen = nil
		c.listed.Store(false) // its next request brings it back, unless that has just begun
		now := c.current.Load()
		return now == nil || now == x || !c.listed.CompareAndSwap(false, true)
	})
	return len(l.list) > 0
}
