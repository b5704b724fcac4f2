package mcp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// errHeaderSize: the server's answer has more header than anybody needs.
var errHeaderSize = errors.New("the header of the server's answer is too large")

// maxResponseHeader bounds the header of a server's answer, in bytes.
const maxResponseHeader = 64 << 10

// openStream sends a request whose answer is a stream that may stay open for
// hours: there are thousands of these, and most of them are silent. Over plain
// HTTP/1.1 each has a connection of its own in any case, on which http.Transport
// would keep two goroutines and their buffers; this does without.
func (u *upstream) openStream(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" {
		return u.transport.RoundTrip(r) // perhaps HTTP/2, with many streams on one connection
	}
	ctx := r.Context()
	address := r.URL.Host
	if r.URL.Port() == "" {
		address = net.JoinHostPort(r.URL.Hostname(), "80")
	}
	raw, err := u.transport.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := &streamConn{Conn: raw, left: maxResponseHeader}
	conn.stop = context.AfterFunc(ctx, func() { _ = raw.Close() })
	if wait := u.transport.ResponseHeaderTimeout; wait > 0 {
		_ = raw.SetDeadline(time.Now().Add(wait))
	}
	response, err := conn.exchange(r)
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	conn.left = -1
	response.Body = &streamBody{Reader: response.Body, conn: conn}
	return response, nil
}

// streamConn is a connection for one request.
type streamConn struct {
	net.Conn
	left int64 // bytes of header that may still come; negative: the header is read
	stop func() bool
}

func (c *streamConn) Read(p []byte) (int, error) {
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

func (c *streamConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// exchange sends the request, and reads the header of the answer.
func (c *streamConn) exchange(r *http.Request) (*http.Response, error) {
	r.Close = true
	if err := r.Write(c.Conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReaderSize(c, streamBuffer)
	for {
		response, err := http.ReadResponse(reader, r)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
		// Informational answers come before the real one; their number is
		// bounded by the header's size.
	}
}

// streamBody ends with its connection: what is left of the stream is not read.
type streamBody struct {
	io.Reader
	conn *streamConn
}

func (b *streamBody) Close() error { return b.conn.Close() }
