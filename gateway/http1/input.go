package http1

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

const (
	// bufferPatience is how long a connection that waits keeps its buffer.
	bufferPatience = 10 * time.Second

	// lastLook is how long a connection that waits for its next request is still read once
	// the server drains, twice. Until then no machine is too busy to see what is there.
	lastLook = 50 * time.Millisecond
)

// input is the reading side of a connection.
type input struct {
	in     wire.Buffer
	one    [1]byte
	began  time.Time // when the request's first byte was there
	served int       // requests so far

	mu      sync.Mutex
	until   time.Time // when the reader's patience ends; zero: never
	armed   time.Time // the deadline that the connection has, never after until
	resting bool      // it waits for a request's first byte
}

// await waits for the first byte of a request. After a while it gives the buffer away. Once the
// server drains it looks once more, since a deadline that has passed hides bytes that are there.
func (c *conn) await() (err error) {
	if c.in.Len() == 0 {
		now, end := time.Now(), c.until // a new connection has had that since its start
		if c.served > 0 {
			end = after(now, c.server.IdleTimeout)
		}
		c.rest(earlier(end, now.Add(bufferPatience)))
		err = c.fill()
		if late(err) && !c.server.draining.Load() && (end.IsZero() || time.Now().Before(end)) {
			c.in.Release()
			c.rest(end)
			var n int
			n, err = c.read(c.one[:])
			c.in.Added(copy(c.in.Room(), c.one[:n]))
		}
		if late(err) && c.server.draining.Load() {
			c.within(time.Now().Add(lastLook))
			err = c.fill()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resting, c.began = false, time.Now()
	return err
}

func late(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// rest bounds a wait for a request, and within any other reads from now on.
func (c *conn) rest(until time.Time)   { c.bound(until, true) }
func (c *conn) within(until time.Time) { c.bound(until, false) }

func (c *conn) bound(until time.Time, resting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if resting && c.server.draining.Load() {
		until = earlier(until, time.Now().Add(lastLook))
	}
	c.until, c.resting = until, resting
	c.arm(until)
}

// hurry bounds the wait for a request, since the server drains.
func (c *conn) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resting {
		c.until = earlier(c.until, time.Now().Add(lastLook))
		c.arm(c.until)
	}
}

// arm sets the connection's deadline, unless it has an earlier one: an alarm that comes too early
// now and then costs less than a deadline for each request. It runs with the lock held.
func (c *conn) arm(t time.Time) {
	if !t.IsZero() && (c.armed.IsZero() || t.Before(c.armed)) {
		c.armed = t
		_ = c.net.SetReadDeadline(t)
	}
}

// again reports whether a read goes on after an alarm, and sets the next one.
func (c *conn) again() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		return false
	}
	c.armed = c.until
	_ = c.net.SetReadDeadline(c.until)
	return true
}

// after returns the end of somebody's patience; 0: there is none.
func after(t time.Time, patience time.Duration) time.Time {
	if patience == 0 {
		return time.Time{}
	}
	return t.Add(patience)
}

// earlier returns the earlier of two times, of which the first may be none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// read reads from the connection, until the reader's patience ends.
func (c *conn) read(p []byte) (int, error) {
	for {
		n, err := c.net.Read(p)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.ErrNoProgress
		case !late(err) || !c.again():
			return 0, err
		}
	}
}

// fill reads more bytes into the buffer.
func (c *conn) fill() error {
	n, err := c.read(c.in.Room())
	c.in.Added(n)
	return err
}
