package rewrite

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// ErrCursor: a client's cursor is not valid, or is of another list. Answer it with error
// -32602.
var ErrCursor = errors.New("the cursor is not one of this list")

// Cursor is the place where a merged list continues. Clients get it as text and send it
// back. A client gains nothing from a forged one, as long as the gateway checks the
// servers in it like those of any other request.
type Cursor struct {
	Kind Kind
	Open []Position // partly listed servers, in the list's order
	Next string     // servers from this name on are not listed yet; "": all are
}

// Position is the place in one server's list.
type Position struct {
	Server string
	Cursor string // of the server's page, as the server gave it; "" for the first
	Empty  bool   // the server's cursor is the empty string, and it is not the first page
	Skip   int    // listed entries at the start of that page
}

// First reports whether the position is on the first page of the server's list.
func (p Position) First() bool { return p.Cursor == "" && !p.Empty }

// start reports whether no entry of the server is listed yet.
func (p Position) start() bool { return p.First() && p.Skip == 0 }

// skipOfEmpty is added to Skip where the server's cursor is the empty string, to tell it
// from the first page.
const skipOfEmpty = 1 << 23

// Done reports whether nothing is left to list.
func (c *Cursor) Done() bool { return len(c.Open) == 0 && c.Next == "" }

const (
	cursorVersion = 1

	// Bounds of a client's cursor. A merge stays below them, since each server has
	// one position.
	maxCursorText = 1 << 20
	maxNumber     = 1 << 24
)

var cursorText = base64.RawURLEncoding.Strict()

// String returns the cursor as clients get it.
func (c *Cursor) String() string {
	b := []byte{cursorVersion, byte(c.Kind)}
	b = appendText(b, c.Next)
	b = binary.AppendUvarint(b, uint64(len(c.Open)))
	for _, p := range c.Open {
		b = appendText(b, p.Server)
		b = appendText(b, p.Cursor)
		skip := max(p.Skip, 0)
		if p.Empty {
			skip += skipOfEmpty
		}
		b = binary.AppendUvarint(b, uint64(skip))
	}
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return cursorText.EncodeToString(b)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// ParseCursor reads the text of [Cursor.String] for a list of that kind. The error is
// [ErrCursor].
func ParseCursor(kind Kind, text string) (Cursor, error) {
	if len(text) > maxCursorText {
		return Cursor{}, ErrCursor
	}
	b, err := cursorText.DecodeString(text)
	if err != nil || len(b) < 6 || b[0] != cursorVersion || Kind(b[1]) != kind {
		return Cursor{}, ErrCursor
	}
	b, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.ChecksumIEEE(b) != binary.BigEndian.Uint32(sum) {
		return Cursor{}, ErrCursor
	}
	d := decoder{rest: b[2:]}
	c := Cursor{Kind: kind, Next: d.text()}
	before := ""
	for range d.number() {
		p := Position{Server: d.text(), Cursor: d.text(), Skip: d.number()}
		if p.Cursor == "" && p.Skip >= skipOfEmpty {
			p.Empty, p.Skip = true, p.Skip-skipOfEmpty
		}
		// A merge leaves each server once, in the list's order. The gateway would
		// otherwise ask a server that is here a thousand times as often.
		if p.Server <= before || c.Next != "" && p.Server >= c.Next || p.start() {
			d.failed = true
		}
		before = p.Server
		if d.failed {
			break
		}
		c.Open = append(c.Open, p)
	}
	// A cursor with another text is forged.
	if d.failed || len(d.rest) > 0 || c.Done() || c.String() != text {
		return Cursor{}, ErrCursor
	}
	return c, nil
}

// decoder reads a cursor's parts, until one is wrong.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) number() int {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > maxNumber || d.failed {
		d.failed = true
		return 0
	}
	d.rest = d.rest[size:]
	return int(n)
}

func (d *decoder) text() string {
	n := d.number()
	if d.failed || n > len(d.rest) {
		d.failed = true
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}
