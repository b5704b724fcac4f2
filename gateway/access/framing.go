package access

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
)

// net/http drops a Content-Length beside a Transfer-Encoding, so a handler cannot see it. A
// proxy in front of the gateway may have used it, and so taken other bytes for the next
// request. This is how requests are smuggled. So framedConn examines the bytes as they are
// read. After a request with ambiguous framing, the gateway refuses every request on the
// connection. The gateway's own server, gateway/http1, needs no such check.

// Watch wraps the listener that an [http.Server] serves, above all others.
func (c *Connections) Watch(listener net.Listener) net.Listener { return framingListener{listener} }

type framingListener struct{ net.Listener }

func (l framingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &framedConn{Conn: conn, record: paced(conn)}
	c.record.framing = &c.framing
	return c, nil
}

// framedConn is a connection whose framing is watched.
type framedConn struct {
	net.Conn
	record  *pacedConn // innermost
	framing framing
}

// NetConn returns the connection below.
func (c *framedConn) NetConn() net.Conn { return c.Conn }

func (c *framedConn) Read(p []byte) (int, error) {
	if c.record.admit(c); c.record.admission == rejected {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	c.framing.watch(p[:n])
	return n, err
}

func ambiguous(ctx context.Context) bool {
	c := connection(ctx)
	return c != nil && c.framing != nil && c.framing.ambiguous.Load()
}

// maxFramingLine is how much of a header line is kept. The lines that matter
// are short; of the others only their end is looked for.
const maxFramingLine = 128

// framing follows the requests on one connection: header lines, then a body,
// then header lines again. It needs no more of HTTP than that, since it gives
// up, for good, at the first request that could be understood in two ways.
//
// The server never reads from two goroutines at once; only ambiguous is read by
// handlers as well.
type framing struct {
	ambiguous atomic.Bool

	state   framingState
	line    []byte // the stored part of the line so far
	left    int64  // bytes of the body, or of the chunk
	length  int64  // Content-Length, -1 if there is none
	chunked bool
	lines   int // of the header so far
}

type framingState int

const (
	inHeader framingState = iota
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
)

// watch takes the next bytes of the connection.
func (f *framing) watch(p []byte) {
	for len(p) > 0 && !f.ambiguous.Load() {
		switch f.state {
		case inBody, inChunk:
			n := min(int64(len(p)), f.left)
			f.left -= n
			p = p[n:]
			if f.left == 0 {
				f.bodyDone()
			}
		default:
			end := bytes.IndexByte(p, '\n')
			if end < 0 {
				f.keep(p)
				return
			}
			f.lineDone(f.whole(p[:end]))
			f.line = f.line[:0]
			p = p[end+1:]
		}
	}
}

func (f *framing) keep(p []byte) {
	if room := maxFramingLine - len(f.line); room > 0 {
		f.line = append(f.line, p[:min(room, len(p))]...)
	}
}

// whole returns the line that ends with p, copying it only if its start came
// with an earlier read.
func (f *framing) whole(p []byte) []byte {
	if len(f.line) == 0 {
		return p[:min(len(p), maxFramingLine)]
	}
	f.keep(p)
	return f.line
}

func (f *framing) bodyDone() {
	if f.state == inChunk {
		f.state = inChunkEnd
		return
	}
	f.state = inHeader
}

func (f *framing) lineDone(line []byte) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	switch f.state {
	case inHeader:
		f.headerLine(line)
	case inChunkSize:
		size, _, _ := strings.Cut(string(line), ";")
		n, err := strconv.ParseUint(strings.Trim(size, " \t"), 16, 63)
		switch {
		case err != nil:
			f.ambiguous.Store(true)
		case n == 0:
			f.state = inTrailer
		default:
			f.state, f.left = inChunk, int64(n)
		}
	case inChunkEnd:
		if len(line) > 0 {
			f.ambiguous.Store(true)
		}
		f.state = inChunkSize
	case inTrailer:
		if len(line) == 0 {
			f.state = inHeader
		}
	}
}

func (f *framing) headerLine(line []byte) {
	if f.lines == 0 {
		f.length, f.chunked = -1, false
		if len(line) == 0 {
			return // an empty line before a request is allowed
		}
	}
	f.lines++
	if len(line) == 0 {
		f.headerDone()
		return
	}
	if f.lines == 1 { // the request line
		return
	}
	switch line[0] {
	case 'C', 'c', 'T', 't':
	case ' ', '\t': // a line that continues the one before
		f.ambiguous.Store(true)
		return
	default:
		return
	}
	name, value, _ := strings.Cut(string(line), ":")
	name, value = strings.TrimRight(name, " \t"), strings.Trim(value, " \t")
	switch {
	case strings.EqualFold(name, "Content-Length"):
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || f.length >= 0 && f.length != int64(n) {
			f.ambiguous.Store(true)
			return
		}
		f.length = int64(n)
	case strings.EqualFold(name, "Transfer-Encoding"):
		if f.chunked || !strings.EqualFold(value, "chunked") {
			f.ambiguous.Store(true)
		}
		f.chunked = true
	}
}

func (f *framing) headerDone() {
	f.lines = 0
	switch {
	case f.chunked && f.length >= 0:
		f.ambiguous.Store(true)
	case f.chunked:
		f.state = inChunkSize
	case f.length > 0:
		f.state, f.left = inBody, f.length
	}
}
