package mcp

import (
	"bufio"
	"errors"
	"net"
	"net/http"
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
	stop    func() bool
	since   time.Time // when it became idle
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

// Close ends the connection.
func (c *directConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// free takes the connection from its request, and reports whether another one may
// use it: it was not closed, and nothing has come that nobody asked for.
func (c *directConn) free() bool {
	return c.stop() && c.reader.Buffered() == 0
}

// exchange sends the request, and reads the header of the answer.
func (c *directConn) exchange(r *http.Request) (*http.Response, error) {
	c.left, c.written = maxResponseHeader, false
	err := r.Write(c.writer)
	if err == nil {
		err = c.writer.Flush()
	}
	if err != nil {
		return nil, err
	}
	for {
		response, err := http.ReadResponse(c.reader, r)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			c.left = -1
			return response, nil
		}
		// Informational answers come before the real one; their number is
		// bounded by the header's size.
	}
}
