package direct

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// watchAfter is how long a request has been under way when its context gets a watch. Whatever ends
// the request before that ends its connection then.
const watchAfter = 20 * time.Millisecond

// socket is the lowest layer of a connection, below TLS. Deadlines of its own do not reach the layer
// above.
type socket struct {
	net.Conn
	raw  syscall.RawConn // nil: nobody can look at it
	ours bool            // not http.Transport's
	tls  bool            // the layer above

	ctx     context.Context //nolint:containedctx // of the request that it serves; nil: none
	watchAt time.Time
	stop    func() bool // takes the watch off; nil: there is none

	looks   bool // reads do not wait
	look    look
	records records // of TLS, that were read

	mu       sync.Mutex
	until    time.Time // when the reader's patience ends; zero: never
	armed    time.Time // the deadline of reads, and of writes unless stray; never after until
	stray    bool      // writes have had another since
	answered bool      // the header of the answer is read

	held *held // nil: writes pass
}

func newSocket(raw net.Conn) *socket {
	s := &socket{Conn: raw}
	if c, ok := raw.(syscall.Conn); ok {
		s.raw, _ = c.SyscallConn() // nil with an error
	}
	return s
}

// begin gives the socket to a request, whose sending starts now.
func (s *socket) begin(ctx context.Context, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.watchAt, s.stop = ctx, now.Add(watchAfter), nil
	s.until, s.answered = time.Time{}, false
	if s.stray || s.armed.IsZero() || s.armed.After(s.watchAt) || !s.armed.After(now) {
		s.armed, s.stray = s.watchAt, false
		_ = s.SetDeadline(s.armed)
	}
}

// free takes the socket from its request, and reports whether it was not closed meanwhile.
func (s *socket) free() bool {
	if s.stop != nil && !s.stop() {
		return false
	}
	s.ctx, s.stop = nil, nil
	return true
}

// abort ends whatever waits for the server.
func (s *socket) abort() { _ = s.Conn.Close() }

// Close ends the connection at once, without a word of TLS.
func (s *socket) Close() error {
	if s.stop != nil {
		s.stop()
	}
	return s.Conn.Close()
}

// expect bounds the time for the header of the answer, from now on; 0 for no bound.
func (s *socket) expect(wait time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait != 0 && !s.answered {
		s.within(now.Add(wait))
	}
}

// hasAnswered ends the patience for the header.
func (s *socket) hasAnswered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.answered = time.Time{}, true
}

// patience bounds the next reads of the body.
func (s *socket) patience(wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.within(time.Now().Add(wait))
}

// within runs with the lock held.
func (s *socket) within(until time.Time) {
	s.until = until
	if next := s.alarm(); s.armed.IsZero() || next.Before(s.armed) {
		s.armed = next
		_ = s.SetReadDeadline(next)
	}
}

// alarm is when a read is to end that finds nothing: with the reader's patience, or when the request
// gets its watch; zero: never. It runs with the lock held.
func (s *socket) alarm() time.Time {
	if s.stop == nil && (s.until.IsZero() || s.watchAt.Before(s.until)) {
		return s.watchAt
	}
	return s.until
}

// isLate reports whether the reader's patience has ended.
func (s *socket) isLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.until.IsZero() && !time.Now().Before(s.until)
}

func late(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Read waits for as long as the reader has patience.
func (s *socket) Read(p []byte) (int, error) {
	read := s.Conn.Read
	if s.looks {
		read = s.lookFor
	}
	for {
		n, err := read(p)
		if n > 0 || s.looks || s.ctx == nil || !late(err) || !s.again() {
			if s.tls {
				s.records.pass(p[:n])
			}
			return n, err
		}
	}
}

// again reports whether a read goes on after an alarm, and sets the next one. A request that is still
// under way by then gets its watch.
func (s *socket) again() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.until.IsZero() && !now.Before(s.until) {
		return false
	}
	if !now.Before(s.watchAt) {
		s.watch()
	}
	s.armed = s.alarm()
	_ = s.SetReadDeadline(s.armed)
	return true
}

// watch has the end of the request's context end the connection. It runs with the lock held.
func (s *socket) watch() {
	if s.stop == nil {
		s.stop = context.AfterFunc(s.ctx, s.abort)
	}
}

// held has the records of TLS that wait for the socket: those that are collected, and those that are
// being written. Another goroutine may add some while it reads.
type held struct{ collected, flying []byte }

var holds = sync.Pool{New: func() any { return new(held) }}

// maxHeld is the size of a buffer that is kept.
const maxHeld = 128 << 10

// hold has writes collected from now on.
func (s *socket) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = holds.Get().(*held)
	}
}

// collected returns what the layer above has written since the last call, which was written out by
// now. If there is nothing and no more will come, writes pass again.
func (s *socket) collected(last bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held
	h.collected, h.flying = h.flying[:0], h.collected
	out := h.flying
	if len(out) == 0 && last {
		s.held = nil
		if max(cap(h.collected), cap(h.flying)) <= maxHeld {
			holds.Put(h)
		}
	}
	return out
}

// lastWord bounds the write of an answer to what the server says below HTTP, as to renew a key. On an
// idle connection a request waits for it that can have another one.
const (
	lastWord     = 5 * time.Second
	lastIdleWord = blockPatience
)

// Write is that of the layer above.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		s.held.collected = append(s.held.collected, p...)
		return len(p), nil
	}
	if s.ours {
		patience := lastIdleWord
		if s.ctx != nil {
			patience = lastWord
			s.watch()
		}
		_ = s.SetWriteDeadline(time.Now().Add(patience))
		s.stray = true
	}
	return s.Conn.Write(p)
}

// records follows where records of TLS begin and end (RFC 8446, section 5.1).
type records struct {
	header [5]byte
	have   int // bytes of the header
	left   int // bytes that follow it
}

func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left -= n
			p = p[n:]
			continue
		}
		n := copy(r.header[r.have:], p)
		if r.have += n; r.have == len(r.header) {
			r.have, r.left = 0, int(r.header[3])<<8|int(r.header[4])
		}
		p = p[n:]
	}
}

// inside reports whether a part of a record was read, and not its end.
func (r *records) inside() bool { return r.have > 0 || r.left > 0 }

// look is a read that does not wait. It is kept, since it is one for each request.
type look struct {
	run func(fd uintptr) // read
	p   []byte
	n   int
	err error
}

// errQuiet tells TLS that it may go on reading later.
var errQuiet = os.ErrDeadlineExceeded

func (s *socket) lookFor(p []byte) (int, error) {
	l := &s.look
	if l.run == nil {
		l.run = l.read
	}
	l.p, l.n, l.err = p, 0, nil
	err := s.raw.Control(l.run) // deadlines do not count
	l.p = nil
	switch {
	case err != nil:
		return 0, err
	case l.err != nil:
		return 0, l.err
	case l.n == 0:
		return 0, io.EOF
	}
	return l.n, nil
}
