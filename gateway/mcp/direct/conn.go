package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

const (
	// streamSize is the size of a stream's buffer: most streams are silent, and there may be
	// thousands.
	streamSize = 1 << 10

	// maxHeader bounds the header of an answer, with those before it, in bytes.
	maxHeader = 64 << 10
)

// conn is a connection to a server that one request uses at a time.
type conn struct {
	*socket
	tls   *tls.Conn // nil: in the clear
	layer io.Reader // the socket, or TLS upon it

	in  wire.Buffer
	one [1]byte

	sending
	since time.Time // when it became idle
}

// newConn returns a connection over a socket, or over TLS upon one of ours.
func newConn(raw net.Conn) *conn {
	c := &conn{}
	if secured, ok := raw.(*tls.Conn); ok {
		c.tls, c.layer = secured, secured
		c.socket = secured.NetConn().(*socket)
	} else {
		c.socket = newSocket(raw)
		c.layer = c.socket
	}
	c.ours = true
	return c
}

// unsentPatience bounds the wait for an answer to a message that could not be sent. The server may
// have refused it on the way.
const unsentPatience = time.Second

// exchange sends the request, and reads the header of the answer, for which there is a timeout from
// the end of the request on; 0 for none. The connection is closed if there is an error.
func (c *conn) exchange(ctx context.Context, q question, wait time.Duration) (*answer, error) {
	c.begin(ctx, time.Now())
	err := c.ask(q, wait)
	var a *answer
	if err == nil || c.written {
		a, err = c.answer(q.Method)
	}
	if err == nil && ctx.Err() == nil {
		return a, nil
	}
	isLate := c.isLate()
	_ = c.Close()
	c.in.Release()
	c.awaitHelper()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case isLate: // half a header would be called malformed
		err = fmt.Errorf("the header of the answer is not there in time: %w", os.ErrDeadlineExceeded)
	}
	return nil, err
}

// answer reads the header of the answer. Those before it are dropped.
func (c *conn) answer(method string) (*answer, error) {
	for left := maxHeader; ; {
		b, err := c.readHead(left)
		if err != nil {
			return nil, err
		}
		left -= len(b)
		a := new(answer)
		if err := a.parse(b, method); err != nil {
			return nil, err
		}
		c.in.Skip(len(b))
		if a.StatusCode >= 200 || a.StatusCode == http.StatusSwitchingProtocols {
			c.hasAnswered()
			a.body.c = c
			a.Body = &a.body
			return a, nil
		}
	}
}

// readHead returns a header, which stays valid until the next read.
func (c *conn) readHead(most int) ([]byte, error) {
	for line := 0; ; {
		b := c.in.Bytes()
		end, next, err := wire.ScanHead(b, line)
		switch {
		case err != nil:
			return nil, errorOf(err)
		case end > most || end == 0 && len(b) >= most:
			return nil, errHeaderSize
		case end > 0:
			return b[:end], nil
		}
		line = next
		if err := c.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}

// fill reads more bytes into the buffer.
func (c *conn) fill() error {
	n, err := c.layer.Read(c.in.Room())
	if c.in.Added(n); n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// free takes the connection from its request, and reports whether another one may use it: it was not
// closed, all of the request was sent, and nothing is left of the answer.
func (c *conn) free() bool {
	if c.in.Len() > 0 || !c.isSent() || !c.socket.free() {
		return false
	}
	c.in.Release()
	return true
}

// quiet reports whether the server has neither ended the connection nor said anything on it: what it
// has said since its last answer belongs to no request.
func (c *conn) quiet() bool {
	if c.raw == nil {
		return false
	}
	c.looks = true
	n, err := c.layer.Read(c.one[:])
	c.looks = false
	return n == 0 && errors.Is(err, errQuiet) && (c.tls == nil || !c.records.inside())
}

// unexpected turns the end of the connection into an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
