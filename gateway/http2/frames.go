package http2

import "encoding/binary"

// Types of frames, and flags (RFC 9113, section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameRSTStream    = 0x3
	frameGoAway       = 0x7
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagEndHeaders = 0x4
)

// Error codes (RFC 9113, section 7).
const (
	codeNone     = 0x0
	codeInternal = 0x2
	codeCalm     = 0xb // ENHANCE_YOUR_CALM
)

// prefaceLength is that of the client's first bytes, which are no frame (RFC 9113, section 3.4).
const prefaceLength = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// frame is the head of a frame (RFC 9113, section 4.1).
type frame struct {
	length      int
	kind, flags byte
	stream      uint32
	code        uint32 // of RST_STREAM
}

// frames finds the heads of the frames in the bytes of one direction.
type frames struct {
	head  [9]byte
	have  int // bytes of head
	frame frame
	left  int // bytes of its payload that have not come yet
}

// between reports whether the last frame is over, and the next one has not begun.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

// scan takes the next bytes, and hands each head to each: once it is there, and that of RST_STREAM
// once its error code is there.
func (f *frames) scan(p []byte, each func(*frame)) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			reset := f.frame.kind == frameRSTStream
			if reset {
				for _, b := range p[:n] {
					f.frame.code = f.frame.code<<8 | uint32(b)
				}
			}
			f.left -= n
			p = p[n:]
			if reset && f.left == 0 {
				each(&f.frame)
			}
			continue
		}
		n := copy(f.head[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have < len(f.head) {
			return
		}
		f.have = 0
		f.frame = headOf(f.head)
		f.left = f.frame.length
		if f.frame.kind != frameRSTStream || f.left == 0 {
			each(&f.frame)
		}
	}
}

func headOf(b [9]byte) frame {
	return frame{
		length: int(binary.BigEndian.Uint32(b[:]) >> 8),
		kind:   b[3],
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}
}

// goAway is a GOAWAY frame (RFC 9113, section 6.8).
func goAway(last, code uint32) []byte {
	b := []byte{0, 0, 8, frameGoAway, 0, 0, 0, 0, 0}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, last), code)
}
