package mcp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// errHeaderSize: the server's answer has more header than anybody needs.
var errHeaderSize = errors.New("the header of the server's answer is too large")

// directConn is a connection to a server that one request uses at a time.
type directConn struct {
	net.Conn
	reader *bufio.Reader
	writer *bufio.Writer

	left    int64         // bytes of header that may still come; negative: the header is read
	written bool          // something of the request was sent
	wait    time.Duration // for the server: see exchange
	sending *sending
	stop    func() bool
	since   time.Time // when it became idle

	mu       sync.Mutex
	deadline time.Time // for the header of the answer; zero: there is none, or not yet
	answered bool      // the header of the answer is read
}

// sending is a long message on its way to the server.
type sending struct {
	done chan struct{}
	err  error // once done
}

func newDirectConn(raw net.Conn, buffer int) *directConn {
	c := &directConn{Conn: raw}
	c.reader = bufio.NewReaderSize(c, buffer)
	c.writer = bufio.NewWriterSize(c, buffer)
	return c
}

// abort ends whatever waits for the server.
func (c *directConn) abort() { _ = c.Conn.Close() }

// Read bounds the header.
func (c *directConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errHeaderSize
	}
	if c.left > 0 && int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	if c.left > 0 {
		c.left -= int64(n)
	}
	return n, err
}

func (c *directConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written = c.written || n > 0
	return n, err
}

// sendPiece is how much of a long message is written at once, in bytes.
const sendPiece = 256 << 10

// ReadFrom writes a long message from where it is in memory. The server must take each
// piece of it within the connection's wait.
func (c *directConn) ReadFrom(r io.Reader) (written int64, err error) {
	var body *bodyReader
	limited, ok := r.(*io.LimitedReader)
	if ok {
		body, ok = limited.R.(*bodyReader)
	}
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	for err == nil {
		piece := body.take(min(limited.N, sendPiece))
		if len(piece) == 0 {
			return written, nil
		}
		if c.wait > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(c.wait))
		}
		var n int
		n, err = c.Write(piece)
		written += int64(n)
		limited.N -= int64(n)
	}
	return written, err
}

// Close ends the connection.
func (c *directConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// free takes the connection from its request, and reports whether another one may
// use it: it was not closed, all of the request was sent, and nothing has come that
// nobody asked for.
func (c *directConn) free() bool {
	return c.isSent() && c.stop() && c.reader.Buffered() == 0
}

// sendingPatience bounds the wait for a message to be sent whose answer is read: it may
// be gone already, and whoever has sent it not yet awake.
const sendingPatience = 50 * time.Millisecond

func (c *directConn) isSent() bool {
	return c.sending == nil || c.awaitSent() && c.sending.err == nil
}

// awaitSent reports whether the sending of a long message has ended.
func (c *directConn) awaitSent() bool {
	select {
	case <-c.sending.done:
		return true
	default:
	}
	patience := time.NewTimer(sendingPatience)
	defer patience.Stop()
	select {
	case <-c.sending.done:
		return true
	case <-patience.C:
		return false
	}
}

// unsentPatience bounds the wait for an answer to a message that could not be sent. The
// server may have refused it on the way.
const unsentPatience = time.Second

// exchange sends the request, and reads the header of the answer. The header has to come
// within wait once the request is sent; 0 for no limit. A long message is sent
// meanwhile, since the server may answer before it has read all of it.
func (c *directConn) exchange(r *http.Request, wait time.Duration) (*http.Response, error) {
	c.left, c.written, c.sending, c.wait = maxResponseHeader, false, nil, wait
	c.deadline, c.answered = time.Time{}, false
	if r.ContentLength > smallMessage {
		s := &sending{done: make(chan struct{})}
		c.sending = s
		go func() {
			defer close(s.done)
			s.err = c.send(r)
			switch {
			case errors.Is(s.err, os.ErrDeadlineExceeded):
				c.expect(-1)
			case s.err != nil:
				c.expect(unsentPatience)
			default:
				c.expect(wait)
			}
		}()
	} else {
		c.expect(wait)
		if err := c.send(r); err != nil {
			return nil, err
		}
	}
	for {
		response, err := http.ReadResponse(c.reader, r)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			c.left = -1
			c.hasAnswered()
			return response, nil
		}
		// Informational answers come before the real one; their number is
		// bounded by the header's size.
	}
}

func (c *directConn) send(r *http.Request) error {
	if err := r.Write(c.writer); err != nil {
		return err
	}
	return c.writer.Flush()
}

// expect bounds the time for the header of the answer; 0 for no bound.
func (c *directConn) expect(wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait != 0 && !c.answered {
		c.deadline = time.Now().Add(wait)
		_ = c.SetDeadline(c.deadline)
	}
}

func (c *directConn) hasAnswered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
	if !c.deadline.IsZero() {
		_ = c.SetDeadline(time.Time{})
	}
}

// fail ends the connection after an exchange that has failed, and reports whether the
// server was too slow.
func (c *directConn) fail() (late bool) {
	now := time.Now()
	_ = c.Close()
	if c.sending != nil {
		<-c.sending.done
	}
	return !c.deadline.IsZero() && !now.Before(c.deadline)
}
