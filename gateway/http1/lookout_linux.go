package http1

import (
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
	if c.listed.Load() || !c.listed.CompareAndSwap(false, true) {
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

// poller learns from the kernel that a client has ended its side, without reading: so nothing has to
// be stopped before the next read. The runtime's poller waits for its descriptor: it holds no thread.
type poller struct {
	fd int

	mu      sync.Mutex
	last    uint64
	watched map[uint64]*exchange
}

// thePoller is nil if the kernel had no descriptor left: clients' going is not noticed then until
// something is written to them.
var thePoller = sync.OnceValue(func() *poller {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil || unix.SetNonblock(fd, true) != nil {
		return nil
	}
	raw, err := os.NewFile(uintptr(fd), "epoll").SyscallConn()
	if err != nil {
		return nil
	}
	p := &poller{fd: fd, watched: make(map[uint64]*exchange)}
	go p.run(raw)
	return p
})

// watch has an exchange cancelled once its client has gone, at once if it went before.
func watch(x *exchange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.c.raw == nil || x.done.Load() {
		return
	}
	p := thePoller()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	x.watched = p.last
	p.watched[p.last] = x
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(p.last), Pad: int32(p.last >> 32)} //nolint:gosec // the halves of a number
	p.control(x, unix.EPOLL_CTL_ADD, &event)
}

// unwatch runs with the exchange's lock held.
func unwatch(x *exchange) {
	p := thePoller()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watched, x.watched)
	p.control(x, unix.EPOLL_CTL_DEL, nil)
}

// control does nothing for a connection that is closed: the kernel has forgotten it.
func (p *poller) control(x *exchange, operation int, event *unix.EpollEvent) {
	_ = x.c.raw.Control(func(fd uintptr) { _ = unix.EpollCtl(p.fd, operation, int(fd), event) })
}

// run cancels the requests of clients that have gone.
func (p *poller) run(raw syscall.RawConn) {
	var events [64]unix.EpollEvent
	for {
		n := 0
		if err := raw.Read(func(uintptr) bool {
			n, _ = unix.EpollWait(p.fd, events[:], 0)
			return n > 0
		}); err != nil {
			return
		}
		for _, event := range events[:n] {
			p.mu.Lock()
			x := p.watched[uint64(uint32(event.Fd))|uint64(uint32(event.Pad))<<32] //nolint:gosec // the halves of a number
			p.mu.Unlock()
			if x != nil {
				x.cancel()
			}
		}
	}
}
