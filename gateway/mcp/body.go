package mcp

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

const (
	// smallMessage is the size up to which a message is kept apart from the
	// pool: what net/http knows to be in memory it sends in one piece with the
	// header, which saves more than the pool does.
	smallMessage = 8 << 10

	bufferSize    = 32 << 10  // of a new buffer
	maxPooledSize = 256 << 10 // larger ones are left to the garbage collector
)

var buffers = sync.Pool{New: func() any { return &buffer{pooled: true, data: make([]byte, 0, bufferSize)} }}

// buffer holds one request's message. One of the pool is shared between the
// handler and those who send it on, who may still be reading after the answer
// has come, and goes back with the last of them.
type buffer struct {
	data   []byte
	pooled bool
	uses   atomic.Int32
}

// readBody reads all of a request's body into a buffer, which the caller must
// release. Its size is bounded by the body itself.
func readBody(r *http.Request) (*buffer, error) {
	n := r.ContentLength
	var b *buffer
	switch {
	case n >= 0 && n <= smallMessage:
		b = &buffer{data: make([]byte, 0, n+1)} // one more, so that EOF is seen
	default:
		b = buffers.Get().(*buffer)
		b.uses.Store(1)
		b.data = b.data[:0]
		if n > int64(cap(b.data)) && n <= maxPooledSize {
			b.data = make([]byte, 0, n+1)
		}
	}
	for {
		if len(b.data) == cap(b.data) {
			b.data = append(b.data, 0)[:len(b.data)]
		}
		n, err := r.Body.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		b.release()
		return nil, err
	}
}

func (b *buffer) release() {
	if b.pooled && b.uses.Add(-1) == 0 && cap(b.data) <= maxPooledSize {
		buffers.Put(b)
	}
}

// reader returns a new request body that reads the buffer from its start.
func (b *buffer) reader() io.ReadCloser {
	if !b.pooled {
		return io.NopCloser(bytes.NewReader(b.data))
	}
	b.uses.Add(1)
	return &bodyReader{buffer: b, rest: b.data}
}

// again is an outgoing request's GetBody: it is sent anew where nothing of it
// had reached the server.
func (b *buffer) again() (io.ReadCloser, error) { return b.reader(), nil }

var errBodyClosed = errors.New("read of a closed body")

// bodyReader is an outgoing request's body. http.Transport closes it when it is
// done with it, perhaps from another goroutine than the one that reads.
type bodyReader struct {
	mu     sync.Mutex
	buffer *buffer // nil once closed
	rest   []byte
}

func (r *bodyReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buffer == nil {
		return 0, errBodyClosed
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *bodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buffer != nil {
		r.buffer.release()
		r.buffer, r.rest = nil, nil
	}
	return nil
}
