package http1

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller learns from the kernel that a client has ended its side of a connection, without reading
// from it: so nothing has to be stopped before the next read, and TLS is not touched. The runtime's
// own poller waits for its descriptor, so it holds no thread. The process has one.
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

// watch has an exchange cancelled once its client has gone. The kernel reports at once a client that
// went before.
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
