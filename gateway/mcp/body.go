package mcp

import (
	"errors"
	"io"
	"math/bits"
	"net/http"
	"sync"
	"sync/atomic"
)

const (
	// smallMessage is the size up to which a message is kept apart from the
	// pools: what net/http knows to be in memory it sends in one piece with the
	// header, which saves more than a pool does. It is not counted, either.
	smallMessage = 8 << 10

	minPooledSize = 32 << 10
	maxPooledSize = 256 << 10 // larger ones are left to the garbage collector

	// trustedSize is how much memory is taken for a message of which nothing has
	// come yet, because of the length that was announced.
	trustedSize = 128 << 10
)

// pools hold buffers of 32, 64, 128 and 256 KiB.
var pools [4]sync.Pool

// pool returns the index of the pool for buffers of that size, which is the power
// of two that the buffers have; false if there is none.
func pool(size int64) (int, bool) {
	if size > maxPooledSize {
		return 0, false
	}
	return max(0, bits.Len64(uint64(size-1))-bits.Len64(minPooledSize-1)), true //nolint:gosec // sizes are positive
}

// buffer holds one request's message, or an answer. One of a pool is shared between
// the handler and those who send it on, who may still be reading after the answer
// has come, and goes back with the last of them.
type buffer struct {
	data   []byte
	pooled bool
	uses   atomic.Int32
}

// bufferSize is that of a buffer for at least so many bytes.
func bufferSize(size int64) int64 {
	if i, ok := pool(size); ok {
		return minPooledSize << i
	}
	return size
}

// newBuffer returns an empty buffer of a size that bufferSize has returned.
func newBuffer(size int64) *buffer {
	i, ok := pool(size)
	if !ok {
		b := &buffer{data: make([]byte, 0, size), pooled: true}
		b.uses.Store(1)
		return b
	}
	b, _ := pools[i].Get().(*buffer)
	if b == nil {
		b = &buffer{pooled: true, data: make([]byte, 0, minPooledSize<<i)}
	}
	b.uses.Store(1)
	b.data = b.data[:0]
	return b
}

// reserve counts bytes before they are kept: see [access.Request.Reserve].
type reserve func(bytes int64) error

// readBody reads all of a request's body into a buffer, which the caller must
// release. most is the largest that the body itself lets through.
func readBody(r *http.Request, most int64, reserve reserve) (*buffer, error) {
	return readAll(r.Body, r.ContentLength, most, reserve)
}

// readAll reads all that comes into a buffer, which the caller must release. length
// is what was announced; negative if nothing was. No more than most comes. The buffer
// grows with what comes, and each growth is reserved.
func readAll(from io.Reader, length, most int64, reserve reserve) (*buffer, error) {
	if length >= 0 && length <= smallMessage {
		b := &buffer{data: make([]byte, 0, length+1)} // one more, so that EOF is seen
		if err := b.fill(from, nil); err != nil {
			return nil, err
		}
		return b, nil
	}
	size := bufferSize(minPooledSize)
	if length >= 0 {
		size = bufferSize(min(length+1, trustedSize))
	}
	if err := reserve(size); err != nil {
		return nil, err
	}
	b := newBuffer(size)
	for {
		err := b.fill(from, errFull)
		if err == nil {
			return b, nil
		}
		if errors.Is(err, errFull) {
			b, err = b.grow(length, most, reserve)
		}
		if err != nil {
			b.release()
			return nil, err
		}
	}
}

// grow returns a buffer of twice the size, or for as much as can come if that is
// less, with what the old one holds; the old one, if there is no room.
func (b *buffer) grow(length, most int64, reserve reserve) (*buffer, error) {
	old := int64(cap(b.data))
	size := 2 * old
	if length < 0 {
		length = most
	}
	if length >= old { // one more, so that EOF is seen
		size = min(size, length+1)
	}
	size = bufferSize(size)
	if err := reserve(size - old); err != nil {
		return b, err
	}
	larger := newBuffer(size)
	larger.data = append(larger.data, b.data...)
	b.release()
	return larger, nil
}

// errFull: the buffer is, and more may come.
var errFull = errors.New("the buffer is full")

// fill reads until the end, or until the buffer is full. Then it returns full; with
// nil it makes room instead.
func (b *buffer) fill(from io.Reader, full error) error {
	for {
		if len(b.data) == cap(b.data) {
			if full != nil {
				return full
			}
			b.data = append(b.data, 0)[:len(b.data)]
		}
		n, err := from.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// kept is how much was reserved for the buffer.
func (b *buffer) kept() int64 {
	if !b.pooled {
		return 0
	}
	return int64(cap(b.data))
}

// Retain has somebody else use the buffer, until Release.
func (b *buffer) Retain() { b.uses.Add(1) }

// Release is for whoever retained the buffer.
func (b *buffer) Release() { b.release() }

func (b *buffer) release() {
	if !b.pooled || b.uses.Add(-1) != 0 {
		return
	}
	if i, ok := pool(int64(cap(b.data))); ok && cap(b.data) == minPooledSize<<i {
		pools[i].Put(b)
	}
}
