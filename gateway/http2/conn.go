package http2

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The two accounts of a connection.
const (
	// resetsAtOnce streams may be reset in a row: all that a client may have open, twice. The
	// account fills at resetsPerSecond.
	resetsAtOnce    = 2 * MaxStreams
	resetsPerSecond = 10

	// idleFrames is the number of frames without content that may come. Events for which a
	// client needs such frames fill the account again: time (pings), requests, and the
	// bytes of answers (window updates).
	idleFrames       = 2000
	framesPerSecond  = 200
	framesPerRequest = 4
	bytesPerFrame    = 256

	// smallData is the size below which a piece of a body brings nothing, unless it is the last.
	smallData = 256
)

// goodbyeTime bounds the last write of a connection that the server ends.
const goodbyeTime = time.Second

var errFlood = errors.New("http2: too many frames that bring nothing")

// conn is a connection between TLS and net/http. It counts the client's frames.
type conn struct {
	net.Conn // TLS; as this type, so that net/http does not find its ConnectionState
	state    tls.ConnectionState
	server   *Server

	in     frames // by the reader alone, as are the next four
	open   bool   // a header has begun
	ends   bool   // the frame at hand is its last one
	timed  bool   // it has to come to its end in time
	notice []byte // the rest of the GOAWAY that net/http reads

	writing sync.Mutex
	out     frames // under writing

	flooded atomic.Bool

	mu      sync.Mutex
	idle    account // of frames that bring nothing
	resets  account // of streams
	last    uint32  // the stream that was reset last
	leaving bool    // no new stream is served
}

func newConn(t *tls.Conn, s *Server) *conn {
	return &conn{
		Conn:   t,
		state:  t.ConnectionState(),
		server: s,
		in:     frames{left: prefaceLength, frame: frame{kind: frameGoAway}},
		idle:   account{left: idleFrames, most: idleFrames, perSecond: framesPerSecond},
		resets: account{left: resetsAtOnce, most: resetsAtOnce, perSecond: resetsPerSecond},
	}
}

// NetConn returns the connection below.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Read reads the client's bytes. To end the connection in good order, it adds a GOAWAY as if from
// the client: then net/http finishes the open streams, and serves no new one.
func (c *conn) Read(p []byte) (int, error) {
	if n := c.notify(p); n > 0 {
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.in.scan(p[:n], c.received)
	if c.flooded.Load() {
		return 0, errFlood
	}
	c.time()
	return n, err
}

// notify gives net/http the next bytes of the notice, if there is one to give, between two frames
// and outside of a header.
func (c *conn) notify(p []byte) int {
	c.mu.Lock()
	if c.leaving && c.notice == nil && c.in.between() && !c.open {
		c.notice = goAway(0, codeNone)
	}
	c.mu.Unlock()
	n := copy(p, c.notice)
	if c.notice != nil {
		c.notice = c.notice[n:]
	}
	return n
}

// received counts a frame of the client's.
func (c *conn) received(f *frame) {
	header := f.kind == frameHeaders || f.kind == frameContinuation
	c.open, c.ends = header, header && f.flags&flagEndHeaders != 0

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.kind == frameHeaders && !c.leaving:
		c.idle.fill(framesPerRequest)
	case f.kind == frameData && (f.length >= smallData || f.flags&flagEndStream != 0):
	case !c.idle.take() && !c.flooded.Swap(true):
		c.suspect("many frames that bring nothing; the connection has been ended")
	}
	if f.kind == frameRSTStream {
		c.reset(f.stream)
	}
}

// sent counts a frame of the server's.
func (c *conn) sent(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.kind == frameData:
		c.idle.fill(float64(f.length) / bytesPerFrame)
	case f.kind == frameRSTStream && f.code != codeNone && f.code != codeInternal:
		c.reset(f.stream) // the client has provoked it
	}
}

func (c *conn) reset(stream uint32) {
	if stream == c.last { // by both sides, or again for a frame on its way
		return
	}
	c.last = stream
	if !c.resets.take() && !c.leaving {
		c.leaving = true
		c.suspect("many reset streams; it gets no new one on this connection")
	}
}

func (c *conn) suspect(what string) {
	if c.server.Suspect != nil {
		c.server.Suspect(c.RemoteAddr(), what)
	}
}

// time bounds the time in which a header must come to its end.
func (c *conn) time() {
	if c.open && c.ends && c.in.between() {
		c.open = false
	}
	switch {
	case c.open && !c.timed:
		_ = c.SetReadDeadline(time.Now().Add(c.server.inner.ReadHeaderTimeout))
	case !c.open && c.timed:
		_ = c.SetReadDeadline(time.Time{})
	}
	c.timed = c.open
}

// Write writes frames, or parts of them.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.Conn.Write(p)
	c.out.scan(p[:n], c.sent)
	return n, err
}

// Close ends the connection. A client that has flooded it is told, unless a frame is being written.
func (c *conn) Close() error {
	if c.flooded.Load() && c.writing.TryLock() {
		if c.out.between() {
			_ = c.SetWriteDeadline(time.Now().Add(goodbyeTime))
			_, _ = c.Conn.Write(goAway(0, codeCalm))
		}
		c.writing.Unlock()
	}
	return c.Conn.Close()
}

// account is the number of frames of one kind that a client may still send.
type account struct {
	left, most float64
	perSecond  float64
	filled     time.Time
}

func (a *account) fill(n float64) { a.left = min(a.most, a.left+n) }

// take reports whether there was one left.
func (a *account) take() bool {
	now := time.Now()
	if !a.filled.IsZero() {
		a.fill(now.Sub(a.filled).Seconds() * a.perSecond)
	}
	a.filled = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
