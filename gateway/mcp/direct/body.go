package direct

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// maxChunkLine bounds the line before a chunk, and maxOverhead what the lines of a body
	// may have beyond 16 bytes each and as much as the chunks themselves.
	maxChunkLine = 128
	maxOverhead  = 16 << 10
)

var errChunk = errors.New("the chunks of the server's answer are not valid")

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

	form     form
	begun    bool  // a chunk, whose end is to come
	left     int64 // of the body or the chunk
	overhead int
	err      error // that ended it; io.EOF: it is complete
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
		b.err = context.Cause(ctx)
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
	c.release()
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
	if c.start == c.end {
		if len(p) >= len(c.in) {
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
	n = copy(p, c.in[c.start:c.end])
	c.start += n
	return n, nil
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

// nextChunk reads the line before a chunk, and what ends the chunk before it. After the last one it
// drops the trailers.
func (b *body) nextChunk() error {
	if b.begun {
		if line, err := b.line(2); err != nil || len(line) > 0 {
			return errors.Join(errChunk, err)
		}
	}
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := chunkSize(string(line))
	if !ok {
		return errChunk
	}
	if b.overhead = max(b.overhead+len(line)+2-16-int(min(2*size, maxOverhead)), 0); b.overhead > maxOverhead {
		return errChunk
	}
	b.begun, b.left = true, size
	if size == 0 {
		return b.trailers()
	}
	return nil
}

// chunkSize reads the line before a chunk: digits, and extensions that mean nothing (RFC 9112,
// section 7.1). Extensions with quotes or spaces, which nobody sends, are refused.
func chunkSize(line string) (size int64, ok bool) {
	digits, extensions, extended := strings.Cut(line, ";")
	n, err := strconv.ParseUint(digits, 16, 60) // it takes no sign
	if err != nil || len(digits) > 15 {
		return 0, false
	}
	for extended {
		var extension string
		extension, extensions, extended = strings.Cut(extensions, ";")
		name, value, has := strings.Cut(extension, "=")
		if !httpguts.ValidHeaderFieldName(name) || has && !httpguts.ValidHeaderFieldName(value) {
			return 0, false
		}
	}
	return int64(n), true
}

// trailers reads the lines behind the last chunk, and drops them.
func (b *body) trailers() error {
	for left := maxHeader; ; {
		line, err := b.line(min(left, streamSize))
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return io.EOF
		}
		f := field{end: len(line)}
		if !f.split(line) || !httpguts.ValidHeaderFieldValue(string(line[f.value:f.end])) {
			return errChunk
		}
		left -= len(line) + 2
	}
}

// line reads a line, which ends with CRLF and has at most so many bytes with it.
func (b *body) line(most int) ([]byte, error) {
	c := b.c
	for {
		have := c.in[c.start:c.end]
		have = have[:min(len(have), most)]
		if i := bytes.IndexByte(have, '\n'); i >= 0 {
			if i == 0 || have[i-1] != '\r' {
				return nil, errChunk
			}
			c.start += i + 1
			return have[:i-1], nil
		}
		if len(have) == most {
			return nil, errChunk
		}
		if err := b.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}
