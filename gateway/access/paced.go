package access

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writePatience is how long a client may take none of an answer's next bytes.
	writePatience = 30 * time.Second

	// writeSlice is how long a write waits before it looks whether it is still
	// worth waiting for: so long may an answer outlive its client's token.
	writeSlice = 500 * time.Millisecond

	// writePiece is what writePatience is for. A long answer is written in pieces.
	writePiece = 64 << 10
)

// pacedConn is a connection on which no write waits for ever: not for a client
// that does not read, and not for one whose token has ended. It is the innermost
// layer, where a write that was interrupted can go on; TLS could not go on.
type pacedConn struct {
	net.Conn
	patience time.Duration
	serving  atomic.Pointer[Request] // whose answer is being written; nil: nobody's in particular

	mu    sync.Mutex
	until time.Time // until when its users let it write; zero: no bound of theirs
	armed time.Time // the deadline that the connection below has
}

// SetWriteDeadline is for the layers above. It ends a write that waits.
func (c *pacedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	if t.IsZero() || !t.Before(c.armed) {
		return nil // write looks at it when its slice is over
	}
	c.armed = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is for the layers above.
func (c *pacedConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *pacedConn) Write(p []byte) (written int, err error) {
	for {
		piece := p[written:min(len(p), written+writePiece)]
		n, err := c.writePiece(piece)
		written += n
		if err != nil {
			c.abandon()
			return written, err
		}
		if written == len(p) {
			return written, nil
		}
	}
}

// writePiece writes all of p, for as long as it is worth waiting.
func (c *pacedConn) writePiece(p []byte) (written int, err error) {
	began := time.Now()
	for now := began; ; now = time.Now() {
		if err := c.arm(now); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:])
		written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		if time.Since(began) >= c.patience || c.serving.Load().ended() {
			return written, err
		}
	}
}

// arm gives the connection below a deadline within the next slice. One that still
// holds for half of it is left alone, since most writes do not wait.
func (c *pacedConn) arm(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until.IsZero() && !now.Before(c.until) {
		return os.ErrDeadlineExceeded
	}
	if c.armed.Sub(now) > writeSlice/2 {
		return nil
	}
	c.armed = now.Add(writeSlice)
	if !c.until.IsZero() && c.until.Before(c.armed) {
		c.armed = c.until
	}
	return c.Conn.SetWriteDeadline(c.armed)
}

// abandon has the kernel drop what the client has not taken: it would keep that for
// a quarter of an hour after the connection's end.
func (c *pacedConn) abandon() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// ended reports whether the request has lost what it lives on.
func (r *Request) ended() bool { return r != nil && r.hold.Err() != nil }
