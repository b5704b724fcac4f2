package access

import (
	"errors"
	"net"
	"net/netip"
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

	// writePiece is the size to which writePatience applies. The gateway writes a
	// long answer in pieces.
	writePiece = 64 << 10
)

// pacedConn is a connection on which no write waits for ever: not for a client
// that does not read, and not for one whose token has ended. It is the innermost
// layer, where a write that was interrupted can go on; TLS could not go on.
//
// It is also the gateway's record of the connection, for all layers above.
type pacedConn struct {
	net.Conn
	patience    time.Duration
	connections *Connections            // nil: nobody counts it
	framing     *framing                // nil: the server itself refuses what is ambiguous
	serving     atomic.Pointer[Request] // its answer is being written; nil: none in particular
	arrived     atomic.Bool             // its first request has, or never will

	asked     bool         // whether it may be used; by its reader alone
	admission admission    // set before the first request is read
	source    netip.Prefix // that it is counted for; under the lock of connections, as is the next
	closed    bool

	mu    sync.Mutex
	until time.Time // the deadline that its users set; zero: none
	armed time.Time // the deadline that the connection below has
}

// NetConn returns the connection below, whose socket a server watches, half closes and resets.
func (c *pacedConn) NetConn() net.Conn { return c.Conn }

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

// Write writes all of p in pieces.
func (c *pacedConn) Write(p []byte) (written int, err error) {
	for {
		piece := p[written : written+pieceSize(len(p)-written)]
		n, err := c.patiently(func() (int64, error) {
			n, err := c.Conn.Write(piece)
			piece = piece[n:]
			return int64(n), err
		})
		written += int(n)
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// WriteBuffers writes all of the buffers in pieces, each with one system call if the kernel has
// room, and consumes them. [net.Buffers] knows sockets alone.
func (c *pacedConn) WriteBuffers(buffers *net.Buffers) (written int64, err error) {
	for left := length(*buffers); left > 0; left = length(*buffers) {
		piece := buffers
		if size := pieceSize(left); size < left {
			piece = cut(buffers, size)
		}
		n, err := c.patiently(func() (int64, error) { return piece.WriteTo(c.Conn) })
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

func length(buffers net.Buffers) (n int) {
	for _, b := range buffers {
		n += len(b)
	}
	return n
}

// cut takes the first bytes off the buffers, which have more.
func cut(buffers *net.Buffers, size int) *net.Buffers {
	var piece net.Buffers
	for size > 0 {
		b := (*buffers)[0]
		n := min(size, len(b))
		piece, size = append(piece, b[:n]), size-n
		if n == len(b) {
			*buffers = (*buffers)[1:]
		} else {
			(*buffers)[0] = b[n:]
		}
	}
	return &piece
}

// pieceSize returns the size of the next piece, of so many bytes. The last one may be somewhat
// larger, so that a header and a body of one piece go out together.
func pieceSize(left int) int {
	if left <= writePiece+writePiece/4 {
		return left
	}
	return writePiece
}

// patiently calls write again as long as it is worth waiting. What write has written it does not
// write again.
func (c *pacedConn) patiently(write func() (int64, error)) (written int64, err error) {
	began := time.Now()
	for now := began; ; now = time.Now() {
		var n int64
		if err = c.arm(now); err == nil {
			n, err = write()
			written += n
			if errors.Is(err, os.ErrDeadlineExceeded) && time.Since(began) < c.patience && !c.serving.Load().ended() {
				continue
			}
		}
		if err != nil {
			c.abandon()
		}
		return written, err
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

// abandon has the kernel drop the bytes that the client has not taken. Otherwise it would
// keep them for a quarter of an hour after the connection's end.
func (c *pacedConn) abandon() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// serve notes the request whose answer is written from now on; nil: none in particular.
func (c *pacedConn) serve(r *Request) {
	if c != nil {
		c.serving.Store(r)
	}
}

// ended reports whether the request has lost its grant. One to a page has none to lose.
func (r *Request) ended() bool { return r != nil && r.hold != nil && r.hold.Err() != nil }
