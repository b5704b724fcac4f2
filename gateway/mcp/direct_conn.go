package mcp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
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

	left    int64 // bytes of header that may still come; negative: the header is read
	written bool  // something of the request was sent
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

// ReadFrom writes a message in one piece where it is in memory.
func (c *directConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if body, ok := limited.R.(*bodyReader); ok {
			n, err := c.Write(body.take(limited.N))
			limited.N -= int64(n)
			return int64(n), err
		}
	}
	return io.Copy(struct{ io.Writer }{c}, r)
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
	if c.sending == nil {
		return true
	}
	select {
	case <-c.sending.done:
	default:
		patience := time.NewTimer(sendingPatience)
		defer patience.Stop()
		select {
		case <-c.sending.done:
		case <-patience.C:
			return false
		}
	}
	return c.sending.err == nil
}

// exchange sends the request, and reads the header of the answer, which has to come
// within wait once the request is sent; 0 for no limit. A long message is sent
// meanwhile: the server may answer before it has read all of it.
func (c *directConn) exchange(r *http.Request, wait time.Duration) (*http.Response, error) {
	c.left, c.written, c.sending = maxResponseHeader, false, nil
	c.deadline, c.answered = time.Time{}, false
	if r.ContentLength > smallMessage {
		s := &sending{done: make(chan struct{})}
		c.sending = s
		go func() {
			defer close(s.done)
			if s.err = c.send(r); s.err != nil && wait == 0 {
				c.abort() // nobody else would end it
			}
			c.expect(wait)
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

// expect bounds the time for the header of the answer.
func (c *directConn) expect(wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait > 0 && !c.answered {
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
