package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// maxResponseHeader bounds the header of a server's answer, in bytes.
const maxResponseHeader = 64 << 10

// send sends a request whose answer is expected soon. Over plain HTTP/1.1 the
// request's own goroutine speaks with the server: http.Transport has one goroutine
// write and another one read, and waking them takes longer than all else that the
// gateway does with a small message.
//
// Everything over TLS goes through http.Transport: the server may speak HTTP/2.
func (u *upstream) send(r *http.Request) (*http.Response, error) {
	if !u.direct {
		return u.roundTrip(r)
	}
	for {
		conn := u.idle.take()
		reused := conn != nil
		if !reused {
			var err error
			if conn, err = u.connect(r, connBuffer); err != nil {
				return nil, err
			}
		}
		response, err := u.exchange(conn, r)
		if err == nil {
			response.Body = &directBody{ReadCloser: response.Body, response: response, conn: conn, pool: &u.idle}
			return response, nil
		}
		// The server may end a connection at the moment at which it is used again.
		// What it has not been sent can be sent again.
		if !reused || conn.written || r.Context().Err() != nil {
			return nil, err
		}
		if r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// openStream sends a request whose answer is a stream that may stay open for
// hours: there are thousands of these, and most of them are silent. Over plain
// HTTP/1.1 each has a connection of its own in any case, on which http.Transport
// would keep two goroutines and their buffers; this does without.
func (u *upstream) openStream(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" {
		return u.roundTrip(r) // perhaps HTTP/2, with many streams on one connection
	}
	conn, err := u.connect(r, streamBuffer)
	if err != nil {
		return nil, err
	}
	r.Close = true
	response, err := u.exchange(conn, r)
	if err != nil {
		return nil, err
	}
	response.Body = &directBody{ReadCloser: response.Body, response: response, conn: conn}
	return response, nil
}

// roundTrip sends a request through http.Transport.
func (u *upstream) roundTrip(r *http.Request) (*http.Response, error) {
	response, err := u.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = &transportBody{ReadCloser: response.Body, ctx: r.Context()}
	return response, nil
}

// transportBody is the body of an answer that came through http.Transport. It has no
// orderly end once its request was cancelled: over TLS the server learns of that
// before the connection is closed, and a part of an answer that it ends then would
// look like the whole.
type transportBody struct {
	io.ReadCloser
	ctx context.Context // of the request
}

func (b *transportBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

// connect opens a connection for the request.
func (u *upstream) connect(r *http.Request, buffer int) (*directConn, error) {
	address := r.URL.Host
	if r.URL.Port() == "" {
		address = net.JoinHostPort(r.URL.Hostname(), "80")
	}
	raw, err := u.transport.DialContext(r.Context(), "tcp", address)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as whoever sends it does
		}
		return nil, err
	}
	return newDirectConn(raw, buffer), nil
}

// exchange sends the request and reads the header of the answer. The connection is
// closed if there is an error, and whenever the request's context ends before the
// answer does.
func (u *upstream) exchange(conn *directConn, r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	conn.stop = context.AfterFunc(ctx, conn.abort)
	response, err := conn.exchange(r, u.transport.ResponseHeaderTimeout)
	if err != nil {
		switch late := conn.fail(); {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case late:
			// Half a header would be called malformed.
			err = fmt.Errorf("the header of the answer is not there in time: %w", os.ErrDeadlineExceeded)
		}
		return nil, err
	}
	return response, nil
}

// directBody is the body of an answer. Its connection ends with it, or serves
// another request.
type directBody struct {
	io.ReadCloser
	response *http.Response
	conn     *directConn // nil: given back or closed
	pool     *idleConns  // nil: the connection serves no other request
}

func (b *directBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.done()
	}
	return n, err
}

// Close drops the unread rest.
func (b *directBody) Close() error {
	if b.ReadCloser == http.NoBody {
		b.done()
	}
	if b.conn == nil {
		return nil
	}
	conn := b.conn
	b.conn = nil
	return conn.Close()
}

// done gives the connection back, after the answer's end.
func (b *directBody) done() {
	if b.conn == nil || b.pool == nil || b.response.Close || b.response.StatusCode < 200 || !b.conn.free() {
		return
	}
	b.pool.put(b.conn)
	b.conn = nil
}
