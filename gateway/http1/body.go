package http1

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

const (
	// maxChunkLine bounds the line before a chunk, and maxOverhead what the lines of a body
	// may have beyond 16 bytes each and as much as the chunks themselves.
	maxChunkLine = 128
	maxOverhead  = 16 << 10

	// discarded is how much of a body that the handler did not read is read, so that the
	// connection can go on.
	discarded = 256 << 10
)

var errChunk = errors.New("the chunks of the body are not valid")

// body is a request's body, read from its connection. Another goroutine than the handler's may
// read it, and may still do so when the handler has returned.
type body struct {
	x *exchange

	mu       sync.Mutex
	chunked  bool
	begun    bool  // a chunk, whose end is to come
	left     int64 // of the body or the chunk
	overhead int
	err      error // that ended it; io.EOF: it is complete
	closed   bool
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
	if c.start == c.end {
		if len(p) >= readSize {
			b.patience()
			n, err := c.read(p)
			return n, unexpected(err)
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
	return unexpected(b.x.c.fill())
}

// patience bounds the reads for the body, unless the handler has.
func (b *body) patience() {
	if c := b.x.c; !b.x.readSet.Load() {
		c.within(after(c.began, c.server.ReadTimeout))
	}
}

// nextChunk reads the line before a chunk, and what ends the chunk before it.
func (b *body) nextChunk() error {
	if b.begun {
		if err := b.lineEnd(); err != nil {
			return err
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
		return cmp.Or(b.lineEnd(), io.EOF)
	}
	return nil
}

// chunkSize reads the line before a chunk: digits, and extensions that mean nothing (RFC 9112,
// section 7.1). Extensions with quotes or spaces, which nobody sends, are refused.
func chunkSize(line string) (size int64, ok bool) {
	digits, extensions, extended := strings.Cut(line, ";")
	n, err := strconv.ParseUint(digits, 16, 60) // takes no sign
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

// lineEnd reads the end of a chunk, or of all. Trailers, which would stand there, are refused:
// somebody in front could have taken them for fields of the header.
func (b *body) lineEnd() error {
	line, err := b.line(2)
	if err != nil || len(line) > 0 {
		return errors.Join(errChunk, err)
	}
	return nil
}

// line reads a line, which ends with CRLF and has at most so many bytes with it.
func (b *body) line(most int) ([]byte, error) {
	c := b.x.c
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
	if c := b.x.c; !follows && (b.chunked || b.left > int64(c.end-c.start)) {
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
