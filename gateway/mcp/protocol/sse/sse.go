// Package sse reads streams of server-sent events without losing a byte of
// them: an event can be passed on as it came, or with other data. It writes
// them to clients that may be slow, or gone.
//
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
package sse

import (
	"bytes"
	"errors"
	"io"
)

// ErrTooLarge: an event is larger than the decoder's limit.
var ErrTooLarge = errors.New("an event of the stream is too large")

// readSize is how much is read at once.
const readSize = 4 << 10

// Event is one event, or a comment on its own. What it holds is valid until the
// decoder's next call.
type Event struct {
	// Raw is all of the event as it came, its blank line included. The Raws of
	// a stream's events join up to the stream.
	Raw []byte
	// Data is the event's data: its data lines, joined by line feeds.
	Data []byte
	// HasData tells an event with empty data from one without.
	HasData bool
	// Type is the event's type; empty stands for "message".
	Type []byte

	first     bool // of its stream
	id, retry []byte
}

// IsMessage reports whether clients of the protocol read the event as a
// message.
func (e *Event) IsMessage() bool {
	return len(e.Type) == 0 || string(e.Type) == "message"
}

// WithData appends the event to dst, with other data.
func (e *Event) WithData(dst, data []byte) []byte {
	written := false
	lines := e.lines()
	for {
		content, whole, ok := lines.next()
		switch {
		case !ok:
			return dst
		case !isData(content):
			dst = append(dst, whole...)
		case !written:
			dst = AppendData(dst, data)
			written = true
		}
	}
}

// Anew appends the event to dst with other data, written anew: with nothing in it
// but what clients go by, so that none of them reads more in it than was read
// here. For a stream that is one of several, the prefix tells in the event's id
// which; "" drops the id.
func (e *Event) Anew(dst, data []byte, prefix string) []byte {
	begin := len(dst)
	if prefix != "" && len(e.id) > 0 && bytes.IndexByte(e.id, 0) < 0 {
		dst = append(append(append(append(dst, "id: "...), prefix...), e.id...), '\n')
	}
	if isNumber(e.retry) {
		dst = append(append(append(dst, "retry: "...), e.retry...), '\n')
	}
	switch {
	case e.HasData:
		dst = AppendData(dst, data)
	case len(dst) == begin:
		dst = append(dst, ":\n"...)
	}
	return append(dst, '\n')
}

func isNumber(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) > 0
}

// AppendData appends data as data lines to dst: without the blank line that
// ends an event.
func AppendData(dst, data []byte) []byte {
	for {
		dst = append(dst, "data: "...)
		i := bytes.IndexAny(data, "\r\n")
		if i < 0 {
			dst = append(dst, data...)
			return append(dst, '\n')
		}
		dst = append(dst, data[:i]...)
		dst = append(dst, '\n')
		if data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n' {
			i++
		}
		data = data[i+1:]
	}
}

// AppendMessage appends a whole event with the message to dst.
func AppendMessage(dst, message []byte) []byte {
	return append(AppendData(dst, message), '\n')
}

// keptSize is the size up to which a decoder keeps its buffer for the next event.
const keptSize = 64 << 10

// Decoder splits a stream into events.
type Decoder struct {
	// Reserve is asked before more memory is taken than most events need, with the
	// bytes; negative when they are given back. Nil: nobody is asked.
	Reserve func(bytes int64) error

	r     io.Reader
	limit int

	// Read, and not yet dropped. The current event is buffer[start:at] so far,
	// and its current line starts at line.
	buffer          []byte
	start, line, at int
	err             error // of the last read
	full            error // of Reserve
	reserved        int64

	begun   bool // the first line was read
	first   bool // the current event is the stream's first
	afterCR bool // a line ended with a CR, and what follows it was not read yet
	joined  []byte
}

// NewDecoder reads events of at most limit bytes from r.
func NewDecoder(r io.Reader, limit int) *Decoder {
	return &Decoder{r: r, limit: limit}
}

// Next returns the next event, as soon as its last byte was read. What stands
// behind the last complete event is an event too: clients should drop it, and
// some do not. The error is io.EOF at the stream's end, [ErrTooLarge], or that
// of the reader.
func (d *Decoder) Next() (*Event, error) {
	d.start, d.first = d.at, !d.begun
	if d.lateLF() {
		return &Event{Raw: d.buffer[d.start:d.at:d.at]}, nil
	}
	for first := true; ; first = false {
		content, ok, err := d.readLine()
		switch {
		case err != nil:
			return nil, err
		case !ok && d.at == d.start:
			return nil, d.err
		case !ok:
			return d.event(), nil
		}
		// A comment on its own keeps the connection alive: it must not wait
		// for the event behind it.
		if len(content) == 0 || content[0] == ':' && first {
			return d.event(), nil
		}
	}
}

// lateLF steps over the LF of a CR LF whose CR was the last byte read when its
// line was handed out.
func (d *Decoder) lateLF() bool {
	if !d.afterCR {
		return false
	}
	d.afterCR = false
	for d.at == len(d.buffer) && d.err == nil && d.full == nil {
		d.line = d.at
		d.fill()
	}
	if d.at == len(d.buffer) || d.buffer[d.at] != '\n' {
		return false
	}
	d.at++
	return true
}

// readLine reads one line. Its content has no terminator; d.at stands behind
// that. At the stream's end ok is false unless something is left, which then is
// the last line.
func (d *Decoder) readLine() (content []byte, ok bool, err error) {
	d.lateLF() // it belongs to the line before
	d.line = d.at
	for scanned := 0; ; d.fill() {
		rest := d.buffer[d.line+scanned:]
		if i := bytes.IndexAny(rest, "\r\n"); i >= 0 {
			end := d.line + scanned + i
			d.at = end + 1
			if rest[i] == '\r' {
				d.afterCR = d.at == len(d.buffer)
				if !d.afterCR && d.buffer[d.at] == '\n' {
					d.at++
				}
			}
			return d.withoutMark(d.buffer[d.line:end]), true, nil
		}
		scanned = len(d.buffer) - d.line
		if len(d.buffer)-d.start > d.limit {
			return nil, false, ErrTooLarge
		}
		if d.full != nil {
			return nil, false, d.full
		}
		if d.err != nil {
			d.at = len(d.buffer)
			return d.withoutMark(d.buffer[d.line:]), scanned > 0, nil //nolint:nilerr // Next returns it behind the last event
		}
	}
}

// withoutMark takes the byte order mark off the stream's first line.
func (d *Decoder) withoutMark(content []byte) []byte {
	if d.begun {
		return content
	}
	d.begun = true
	return bytes.TrimPrefix(content, byteOrderMark)
}

var byteOrderMark = []byte("\ufeff")

// fill reads more, and drops what is before the current event.
func (d *Decoder) fill() {
	if d.start > 0 {
		n := copy(d.buffer, d.buffer[d.start:])
		d.buffer = d.buffer[:n]
		d.at -= d.start
		d.line -= d.start
		d.start = 0
	}
	switch {
	case cap(d.buffer)-len(d.buffer) < readSize:
		d.resize(2*cap(d.buffer) + readSize)
	case cap(d.buffer) > keptSize && len(d.buffer) < keptSize/2:
		d.resize(keptSize) // the large event is over
		d.joined = nil
	}
	if d.full != nil {
		return
	}
	n, err := d.r.Read(d.buffer[len(d.buffer):cap(d.buffer)])
	d.buffer = d.buffer[:len(d.buffer)+n]
	d.err = err
}

// resize gives the buffer another capacity. An event takes twice that of the memory:
// its data are joined, and perhaps written anew.
func (d *Decoder) resize(capacity int) {
	if d.Reserve != nil {
		wanted := 2 * int64(max(0, capacity-keptSize))
		if wanted != d.reserved {
			if d.full = d.Reserve(wanted - d.reserved); d.full != nil {
				return
			}
			d.reserved = wanted
		}
	}
	resized := make([]byte, len(d.buffer), capacity)
	copy(resized, d.buffer)
	d.buffer = resized
}

// event makes the event of the lines read.
func (d *Decoder) event() *Event {
	e := &Event{Raw: d.buffer[d.start:d.at:d.at], first: d.first}
	joined := false
	for lines := e.lines(); ; {
		content, _, ok := lines.next()
		if !ok {
			break
		}
		name, value, _ := bytes.Cut(content, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		data := string(name) == "data"
		switch {
		case data && !e.HasData:
			e.Data, e.HasData = value, true
		case data:
			if !joined {
				d.joined = append(d.joined[:0], e.Data...)
				joined = true
			}
			d.joined = append(d.joined, '\n')
			d.joined = append(d.joined, value...)
		case string(name) == "event":
			e.Type = value
		case string(name) == "id":
			e.id = value
		case string(name) == "retry":
			e.retry = value
		}
	}
	if joined {
		e.Data = d.joined
	}
	return e
}

// isData reports whether the line is one of data.
func isData(content []byte) bool {
	name, _, _ := bytes.Cut(content, []byte(":"))
	return string(name) == "data"
}

// lines are those of an event. They are looked for again when they are needed: to
// remember them would take many times the bytes of an event whose lines are short.
type lines struct {
	rest []byte
	cr   bool // some end with a CR
	mark bool // the first may begin with the stream's byte order mark
}

func (e *Event) lines() lines {
	return lines{rest: e.Raw, cr: bytes.IndexByte(e.Raw, '\r') >= 0, mark: e.first}
}

// next returns the next line: what it holds, and all of it.
func (l *lines) next() (content, whole []byte, ok bool) {
	if len(l.rest) == 0 {
		return nil, nil, false
	}
	var end int
	if l.cr {
		end = bytes.IndexAny(l.rest, "\r\n")
	} else {
		end = bytes.IndexByte(l.rest, '\n') // faster, where no CR may stand before it
	}
	behind := end + 1
	switch {
	case end < 0:
		end, behind = len(l.rest), len(l.rest)
	case l.rest[end] == '\r' && behind < len(l.rest) && l.rest[behind] == '\n':
		behind++
	}
	content, whole, l.rest = l.rest[:end], l.rest[:behind], l.rest[behind:]
	if l.mark {
		content, l.mark = bytes.TrimPrefix(content, byteOrderMark), false
	}
	return content, whole, true
}
