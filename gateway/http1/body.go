package http1

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"sync"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

// discarded is how much of a body that the handler left is read, so that the connection goes on.
const discarded = 256 << 10

// body is a request's body, read from its connection. Another goroutine than the handler's may
// read it, and may still do so when the handler has returned.
type body struct {
	x *exchange

	mu      sync.Mutex
	chunked bool
	chunks  wire.Chunks
	left    int64 // of the body or the chunk
	err     error // that ended it; io.EOF: it is complete
	closed  bool
}

// Read reads from the body.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

// Close makes further reads fail.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

func (b *body) read(p []byte) (n int, err error) {
	if b.err == nil && len(p) > 0 {
		b.err = b.x.goOn()
	}
	if b.err == nil && b.left == 0 && len(p) > 0 {
		b.err = b.nextChunk()
	}
	if b.err == nil && len(p) > 0 {
		n, b.err = b.piece(p[:min(int64(len(p)), b.left)])
		if b.left -= int64(n); b.left == 0 && b.err == nil && !b.chunked {
			b.err = io.EOF
		}
	}
	return n, b.err
}

// piece reads bytes of the body or the chunk. Many at once do not go through the buffer.
func (b *body) piece(p []byte) (n int, err error) {
	c := b.x.c
	if c.in.Len() == 0 {
		if len(p) >= wire.BufferSize {
			b.patience()
			n, err := c.read(p)
			return n, unexpected(err)
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	return c.in.Move(p), nil
}

func (b *body) fill() error {
	b.patience()
	return unexpected(b.x.c.fill())
}

// patience bounds the reads for the body, unless the handler has.
func (b *body) patience() {
	if c := b.x.c; !b.x.readSet.Load() {
		c.within(after(c.began, c.server.ReadTimeout))
	}
}

// nextChunk begins the next chunk. Trailers, which would stand behind the last one, are refused:
// somebody in front could have taken them for fields of the header.
func (b *body) nextChunk() (err error) {
	if b.left, err = b.chunks.Next(b); err == nil && b.left == 0 {
		err = cmp.Or(wire.LineEnd(b), io.EOF)
	}
	return err
}

// Line is for package wire.
func (b *body) Line(most int) ([]byte, error) {
	for {
		if line, there, err := b.x.c.in.Line(most); there || err != nil {
			return line, err
		}
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
}

// discard reads the rest of the body unless it is long, or is being read, and reports whether a
// request may follow. If none may, it takes no more than what is in the buffer.
func (b *body) discard(follows bool) bool {
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	if c := b.x.c; !follows && (b.chunked || b.left > int64(c.in.Len())) {
		return false
	}
	for left := int64(discarded); b.err == nil && b.left <= left; {
		n, _ := b.read(make([]byte, 512))
		left -= int64(n)
	}
	return b.err == io.EOF //nolint:errorlint // ours
}

// unexpected turns the end of the connection into an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
