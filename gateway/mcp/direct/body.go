package direct

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

// ErrStalled is a timeout: the server has begun an answer and does not go on.
var ErrStalled = fmt.Errorf("the answer does not go on: %w", os.ErrDeadlineExceeded)

// The ways in which a body ends.
type form int

const (
	byLength form = iota
	inChunks
	toTheEnd // of the connection
)

// body is that of an answer. Its connection ends with it, or serves another request.
type body struct {
	c     *conn // nil: given back or closed
	pool  *pool // nil: the connection serves no other request
	wait  time.Duration
	limit bool // wait is in force

	form   form
	chunks wire.Chunks
	left   int64 // of the body or the chunk
	err    error // that ended it; io.EOF: it is complete
}

// Read reads from the answer, which has no orderly end once its request was cancelled: the server may
// learn of that before the connection is closed, and a part of an answer that it ends then would look
// like the whole.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	ctx, n := b.c.ctx, 0
	if ctx.Err() == nil {
		n, b.err = b.read(p)
	}
	switch {
	case ctx.Err() != nil:
		n, b.err = 0, context.Cause(ctx) // what has come since is not for whoever asked
	case late(b.err):
		b.err = ErrStalled
	}
	if b.err != nil {
		_ = b.Close()
	}
	return n, b.err
}

// Close gives the connection back if the answer is read to its end, else it ends it.
func (b *body) Close() error {
	c := b.c
	if c == nil {
		return nil
	}
	b.c = nil
	if b.err == nil && b.form == byLength && b.left == 0 {
		b.err = io.EOF
	}
	if b.err == io.EOF && b.pool != nil && c.free() { //nolint:errorlint // ours
		b.pool.put(c)
		return nil
	}
	if b.err == nil {
		b.err = http.ErrBodyReadAfterClose
	}
	_ = c.socket.Close()
	c.in.Release()
	return nil
}

func (b *body) read(p []byte) (n int, err error) {
	if b.form == inChunks && b.left == 0 {
		err = b.nextChunk()
	} else if b.form == byLength && b.left == 0 {
		err = io.EOF
	}
	if err != nil {
		return 0, err
	}
	if b.form == toTheEnd {
		return b.piece(p)
	}
	n, err = b.piece(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 && b.form == byLength {
		return n, io.EOF
	}
	return n, unexpected(err)
}

// piece reads bytes of the body or the chunk. Many at once do not go through the buffer.
func (b *body) piece(p []byte) (n int, err error) {
	c := b.c
	if c.in.Len() == 0 {
		if len(p) >= c.in.Size() {
			b.patience()
			n, err = c.layer.Read(p)
			if n > 0 {
				err = nil // TLS tells the end of the connection together with the last bytes
			}
			return n, err
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	return c.in.Move(p), nil
}

func (b *body) fill() error {
	b.patience()
	return b.c.fill()
}

// patience bounds the next read.
func (b *body) patience() {
	if b.limit {
		b.c.patience(b.wait)
	}
}

// nextChunk begins the next chunk. After the last one it drops the trailers.
func (b *body) nextChunk() (err error) {
	if b.left, err = b.chunks.Next(b); err == nil && b.left == 0 {
		err = b.trailers()
	}
	return err
}

// trailers reads the lines behind the last chunk, and drops them.
func (b *body) trailers() error {
	for left := maxHeader; ; {
		line, err := b.Line(min(left, streamSize))
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		if !wire.IsField(line) {
			return wire.ErrChunk
		}
		left -= len(line) + 2
	}
}

// Line is for package wire.
func (b *body) Line(most int) ([]byte, error) {
	for {
		if line, there, err := b.c.in.Line(most); there || err != nil {
			return line, err
		}
		if err := b.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}
