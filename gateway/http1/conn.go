package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

// lingerTime is how long a client that still sends is read when its connection ends. Otherwise the
// kernel would drop the answer that the client has not read yet.
const lingerTime = 500 * time.Millisecond

// conn is a client's connection, with its goroutine.
type conn struct {
	server *Server
	net    net.Conn
	raw    syscall.RawConn // of the socket below all layers; nil: there is none
	ctx    context.Context //nolint:containedctx // of the connection, as http.Server has it
	remote string
	tls    *tls.ConnectionState // nil: in the clear

	input
	failed error // of a write: none follows
	left   bool  // another server has the connection

	current atomic.Pointer[exchange] // nil: no handler runs
	listed  atomic.Bool              // in the lookout's list
	seen    *exchange                // by the lookout, at its last look, as is the next
	rested  bool                     // it had none
}

// serve runs until the connection ends.
func (c *conn) serve() {
	defer c.finish()
	if addr := c.net.RemoteAddr(); addr != nil { // with the PROXY protocol, this reads its header
		c.remote = addr.String()
	}
	if socket, ok := layer[syscall.Conn](c.net); ok {
		c.raw, _ = socket.SyscallConn() // nil with an error
	}
	c.ctx = context.WithValue(context.Background(), http.LocalAddrContextKey, c.net.LocalAddr())
	if c.server.ConnContext != nil {
		c.ctx = c.server.ConnContext(c.ctx, c.net)
	}
	c.within(after(time.Now(), c.server.ReadHeaderTimeout))
	if c.handshake() {
		for c.next() {
		}
	}
}

// finish ends the connection, also after a panic of the handler. The client must see that the
// answer is not complete: one without another end is reset.
func (c *conn) finish() {
	if err := recover(); err != nil && err != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
		stack := make([]byte, 64<<10)
		c.server.ErrorLog.Printf("http: panic serving %s: %v\n%s", c.remote, err, stack[:runtime.Stack(stack, false)])
	}
	x := c.current.Load()
	if x != nil {
		x.leave()
		if l, ok := layer[interface{ SetLinger(int) error }](c.net); ok && x.committed && x.length < 0 && !x.chunked {
			_ = l.SetLinger(0)
		}
	}
	if !c.left {
		_ = c.net.Close()
	}
	if x != nil {
		_ = x.body.Close() // somebody may still read it
	}
	c.in.Release()
}

// kill ends the connection from another goroutine.
func (c *conn) kill() {
	_ = c.net.Close()
	if x := c.current.Load(); x != nil {
		x.cancel()
	}
}

// layer returns the outermost layer of a connection that is a T: TLS, the PROXY protocol, what the
// listener's owner has wrapped (with NetConn, and WriteBuffers for a vector), or the socket.
func layer[T any](conn net.Conn) (found T, ok bool) {
	for {
		if found, ok = conn.(T); ok {
			return found, true
		}
		switch c := conn.(type) {
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		case interface{ Raw() net.Conn }:
			conn = c.Raw()
		default:
			return found, false
		}
	}
}

// handshake shakes hands where the connection speaks TLS, and reports whether HTTP/1.1 follows.
func (c *conn) handshake() bool {
	t, ok := c.net.(*tls.Conn)
	if !ok {
		return true
	}
	if err := t.HandshakeContext(c.ctx); err != nil {
		var record tls.RecordHeaderError
		if errors.As(err, &record) && record.Conn != nil && httpguts.IsTokenRune(rune(record.RecordHeader[0])) {
			_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
		c.server.ErrorLog.Printf("http: TLS handshake error from %s: %v", c.remote, err)
		return false
	}
	state := t.ConnectionState()
	if c.tls = &state; state.NegotiatedProtocol == "" || state.NegotiatedProtocol == "http/1.1" {
		return true
	}
	_ = t.SetReadDeadline(time.Time{})
	c.left = c.server.NextProto != nil && c.server.NextProto(t)
	return false
}

// next serves one request, and reports whether another may follow.
func (c *conn) next() bool {
	var h head
	b, err := c.readHead()
	if err == nil {
		err = parseHead(b, &h)
	}
	if err != nil {
		c.refuse(err)
		return false
	}
	c.in.Skip(len(b))
	c.served++
	ctx, cancel := context.WithCancel(c.ctx)
	r := h.request.WithContext(ctx)
	r.RemoteAddr, r.TLS = c.remote, c.tls
	x := newExchange(c, r, &h, cancel)
	if c.current.Store(x); c.server.closed.Load() {
		cancel() // the server may have looked before
	}
	c.server.lookout.add(c)
	if r.Method == http.MethodOptions && r.RequestURI == "*" {
		x.header["Content-Length"] = []string{"0"} // it asks about the server, as a ping does
	} else {
		c.server.Handler.ServeHTTP(x, r)
	}
	x.leave()
	return x.end()
}

// readHead waits for a request, and returns its header, valid until the next read. The error is a
// [problem] if the client is to know it.
func (c *conn) readHead() ([]byte, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	line, most, borne := 0, c.server.MaxHeaderBytes, false
	for {
		b := c.in.Bytes()
		if !borne && len(b) >= 2 {
			if borne = true; b[0] == '\r' && b[1] == '\n' { // one empty line (RFC 9112, section 2.2)
				c.in.Skip(2)
				continue
			}
		}
		end, next, err := wire.ScanHead(b, line)
		switch {
		case err != nil:
			return nil, problemOf(err)
		case end > most || end == 0 && len(b) > most:
			return nil, errTooLarge
		case end > 0:
			return b[:end], nil
		}
		line = next
		c.within(after(c.began, c.server.ReadHeaderTimeout))
		if err := c.fill(); errors.Is(err, io.EOF) {
			return nil, errCut
		} else if err != nil {
			return nil, err
		}
	}
}

// refuse answers a request that is not valid, if the client still reads.
func (c *conn) refuse(err error) {
	var p *problem
	if !errors.As(err, &p) {
		return
	}
	status := strconv.Itoa(p.status) + " " + http.StatusText(p.status)
	_ = c.write([]byte("HTTP/1.1 " + status + "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" + status + ": " + p.text))
	c.linger()
}

// linger ends the connection's own direction, and reads a little of what the client sends.
func (c *conn) linger() {
	half, ok := layer[interface{ CloseWrite() error }](c.net)
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.within(time.Now().Add(lingerTime))
	for left := discarded; left > 0; left -= c.in.Len() {
		if c.in.Skip(c.in.Len()); c.fill() != nil {
			return
		}
	}
}

// write writes p whole. After an error the connection takes no more.
func (c *conn) write(p []byte) error {
	if c.failed == nil && len(p) > 0 {
		_, c.failed = c.net.Write(p)
	}
	return c.failed
}

// writeOutput writes the waiting bytes, then p and the end, if possible by one system call. The start of p
// is copied, since TLS makes a record of each piece.
func (c *conn) writeOutput(o *output, p []byte, end string) error {
	o.head = append(o.head, o.pending...)
	n := min(cap(o.head)-len(o.head), len(p))
	o.head, p = append(o.head, p[:n]...), p[n:]
	if len(p) == 0 {
		o.head = append(o.head, end...)
		_ = c.write(o.head)
	} else if c.failed == nil {
		pieces := net.Buffers{o.head, p, []byte(end)}
		if w, ok := layer[interface {
			WriteBuffers(b *net.Buffers) (int64, error)
		}](c.net); ok && c.tls == nil {
			_, c.failed = w.WriteBuffers(&pieces)
		} else {
			_, c.failed = pieces.WriteTo(c.net)
		}
	}
	o.head, o.pending = o.head[:0], o.pending[:0]
	return c.failed
}
