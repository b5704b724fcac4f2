package mcp

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

const (
	bufferSize    = 4 << 10   // of a new buffer
	maxPooledSize = 256 << 10 // larger ones are left to the garbage collector
)

var buffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, 0, bufferSize)} }}

// buffer holds one request's message. It is shared between the handler and
// those who send it on, who may still be reading after the answer has come, and
// goes back to the pool with the last of them.
type buffer struct {
	data []byte
	uses atomic.Int32
}

// readBody reads all of a request's body into a buffer, which the caller must
// release. Its size is bounded by the body itself.
func readBody(r *http.Request) (*buffer, error) {
	b := buffers.Get().(*buffer)
	b.uses.Store(1)
	b.data = b.data[:0]
	if n := r.ContentLength; n > int64(cap(b.data)) && n <= maxPooledSize {
		b.data = make([]byte, 0, n+1) // one more, so that EOF is seen
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
	if b.uses.Add(-1) == 0 && cap(b.data) <= maxPooledSize {
		buffers.Put(b)
	}
}

// reader returns a new request body that reads the buffer from its start.
func (b *buffer) reader() io.ReadCloser {
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
