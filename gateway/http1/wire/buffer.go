package wire

import "sync"

// BufferSize is the size of a buffer, in bytes. A header and a small body fit mostly.
const BufferSize = 4 << 10

var buffers = sync.Pool{New: func() any { return new([BufferSize]byte) }}

// Buffer has the bytes of a connection that were read, and that nobody has used yet. It takes memory
// with the first read, and gives it back by Release.
type Buffer struct {
	memory     []byte // nil: there is none
	start, end int    // of the bytes in it
}

// Bytes returns what is in the buffer, valid until the next call of Room, Shrink or Release.
func (b *Buffer) Bytes() []byte { return b.memory[b.start:b.end] }

// Len is how many bytes these are.
func (b *Buffer) Len() int { return b.end - b.start }

// Size is how many there can be at present; 0: the buffer has no memory.
func (b *Buffer) Size() int { return len(b.memory) }

// Skip uses the first bytes.
func (b *Buffer) Skip(n int) { b.start += n }

// Move uses as many bytes as p takes, and copies them there.
func (b *Buffer) Move(p []byte) (n int) {
	n = copy(p, b.Bytes())
	b.start += n
	return n
}

// Line uses the first line, which ends with CRLF, and has at most so many bytes with it. It is
// valid for as long as Bytes are. There is none, without an error, while its end is not there.
func (b *Buffer) Line(most int) (line []byte, there bool, err error) {
	line, length, err := cutLine(b.Bytes(), most)
	b.start += length
	return line, length > 0, err
}

// Room returns memory for the next read, behind the bytes that are there: Added says how many have
// come. The buffer grows only where a header needs it.
func (b *Buffer) Room() []byte {
	switch {
	case b.memory == nil:
		b.memory = buffers.Get().(*[BufferSize]byte)[:]
	case b.start == b.end:
		b.start, b.end = 0, 0
	case b.end < len(b.memory):
	case b.start > 0:
		b.start, b.end = 0, copy(b.memory, b.Bytes())
	default:
		b.replace(make([]byte, 2*len(b.memory)))
	}
	return b.memory[b.end:]
}

// Added notes that so many bytes have been read into Room.
func (b *Buffer) Added(n int) { b.end += n }

// Shrink moves the bytes to a buffer of that size, or as large as they are, if it is smaller.
func (b *Buffer) Shrink(size int) {
	if size = max(size, b.Len()); size < len(b.memory) {
		b.replace(make([]byte, size))
	}
}

func (b *Buffer) replace(memory []byte) {
	n := copy(memory, b.Bytes())
	b.Release()
	b.memory, b.end = memory, n
}

// Release gives the memory away, with all that is in it. One of another size is left to the garbage
// collector.
func (b *Buffer) Release() {
	if len(b.memory) == BufferSize {
		buffers.Put((*[BufferSize]byte)(b.memory))
	}
	*b = Buffer{}
}
