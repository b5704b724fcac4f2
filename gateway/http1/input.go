package http1

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// readSize is the size of the buffer for headers and small bodies.
	readSize = 4 << 10

	// bufferPatience is how long a connection that waits keeps its buffer.
	bufferPatience = 10 * time.Second

	// lastLook is how long a connection that waits for its next request is still read once
	// the server drains.
	lastLook = 5 * time.Millisecond
)

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// input is the reading side of a connection.
type input struct {
	in         []byte // nil: there is no buffer
	start, end int    // of the bytes in it
	one        [1]byte
	began      time.Time // when the request's first byte was there
	served     int       // requests so far

	mu      sync.Mutex
	until   time.Time     // when the reader's patience ends; zero: never
	armed   time.Time     // the deadline that the connection has, never after until
	resting bool          // it waits for a request's first byte
	grace   time.Duration // for that, if the server drains
}

// await waits for the first byte of a request. Once the server drains it looks once more, since a
// deadline that has passed hides bytes that are there.
func (c *conn) await() error {
	var err error
	if c.start == c.end {
		c.rest()
		err = c.fill()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && c.server.draining.Load() {
		c.within(time.Now().Add(lastLook))
		err = c.fill()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resting, c.began = false, time.Now()
	return err
}

// rest begins the wait for a request. Its first alarm comes early, so that the buffer goes.
func (c *conn) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.resting, c.grace = true, lastLook
	if c.served == 0 { // the time since the connection's start goes on
		c.takeBuffer()
		c.grace = max(lastLook, c.server.FirstRequest)
	} else if c.until = (time.Time{}); c.server.IdleTimeout > 0 {
		c.until = now.Add(c.server.IdleTimeout)
	}
	if c.server.draining.Load() {
		c.until = earlier(c.until, now.Add(c.grace))
	}
	c.arm(earlier(c.until, now.Add(bufferPatience)))
}

// hurry bounds the wait for a request, since the server drains.
func (c *conn) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resting {
		c.until = earlier(c.until, time.Now().Add(c.grace))
		c.arm(c.until)
	}
}

// within bounds the reads from now on.
func (c *conn) within(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until = until; !until.IsZero() {
		c.arm(until)
	}
}

// arm sets the connection's deadline, unless it has an earlier one: an alarm that comes too early
// now and then costs less than a deadline for each request. It runs with the lock held.
func (c *conn) arm(t time.Time) {
	if c.armed.IsZero() || t.Before(c.armed) {
		c.armed = t
		_ = c.net.SetReadDeadline(t)
	}
}

// again reports whether a read goes on after an alarm, and whether its buffer has gone.
func (c *conn) again() (goesOn, released bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		return false, false
	}
	if released = c.resting && c.in != nil; released {
		c.release()
	}
	c.armed = c.until
	_ = c.net.SetReadDeadline(c.until)
	return true, released
}

// earlier returns the earlier of two times, of which the first may be none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// errReleased: the buffer that was to be read into has gone.
var errReleased = errors.New("the buffer was released")

// read reads from the connection, until the reader's patience ends.
func (c *conn) read(p []byte) (int, error) {
	for {
		n, err := c.net.Read(p)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.ErrNoProgress
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		}
		if goesOn, released := c.again(); !goesOn {
			return 0, err
		} else if released {
			return 0, errReleased
		}
	}
}

// fill reads more bytes into the buffer. A wait that has lost its buffer takes another with the
// first byte.
func (c *conn) fill() error {
	if c.in != nil || !c.resting {
		c.room()
		n, err := c.read(c.in[c.end:])
		c.end += n
		if err != errReleased { //nolint:errorlint // ours
			return err
		}
	}
	n, err := c.read(c.one[:])
	if err != nil {
		return err
	}
	c.room()
	c.end += copy(c.in[c.end:], c.one[:n])
	return nil
}

// room makes room behind the bytes in the buffer, which grows only where a header needs it.
func (c *conn) room() {
	c.takeBuffer()
	switch {
	case c.start == c.end:
		c.start, c.end = 0, 0
	case c.end < len(c.in):
	case c.start > 0:
		c.start, c.end = 0, copy(c.in, c.in[c.start:c.end])
	default:
		grown := make([]byte, 2*len(c.in))
		n := copy(grown, c.in)
		c.release()
		c.in, c.end = grown, n
	}
}

func (c *conn) takeBuffer() {
	if c.in == nil {
		c.in = readBuffers.Get().(*[readSize]byte)[:]
	}
}

// release gives the buffer away, with all that is in it. A larger one is left to the garbage
// collector.
func (c *conn) release() {
	if len(c.in) == readSize {
		readBuffers.Put((*[readSize]byte)(c.in))
	}
	c.in, c.start, c.end = nil, 0, 0
}
