package sse

import (
	"bytes"
	"errors"
	"io"
)

// ErrTooLarge: an event is larger than the decoder's limit.
var ErrTooLarge = errors.New("an event of the stream is too large")

const (
	// readSize is the size of one read.
	readSize = 4 << 10
	// keptSize is the size up to which the next event uses the same buffer.
	keptSize = 64 << 10
)

// splitter splits a stream into events as its bytes come. It looks at each byte once
// until an event is complete.
type splitter struct {
	// Reserve is called with a number of bytes before the splitter takes more memory
	// than most events need; with a negative number after it has freed that. May be
	// nil.
	Reserve func(bytes int64) error

	limit int

	// The bytes that were read and not yet dropped. The current event begins at
	// start, and its current line at line. The bytes before at were examined.
	buffer          []byte
	start, line, at int
	reserved        int64

	begun   bool // the first line was read
	handed  bool // the first event was returned
	afterCR bool // the last line ended with a CR, and the next byte has not come yet
	joined  []byte
}

// next returns the next event, or nil if it is not complete.
func (s *splitter) next() *Event {
	if s.lateLF() {
		return &Event{Raw: s.take(), late: true}
	}
	for {
		i := bytes.IndexAny(s.buffer[s.at:], "\r\n")
		if i < 0 {
			s.at = len(s.buffer)
			return nil
		}
		content, first := s.withoutMark(s.buffer[s.line:s.at+i]), s.line == s.start
		carriage := s.buffer[s.at+i] == '\r'
		s.at += i + 1
		if carriage && s.at == len(s.buffer) {
			s.afterCR = true
		} else if carriage && s.buffer[s.at] == '\n' {
			s.at++
		}
		s.line = s.at
		// A separate comment keeps the connection alive: it must not wait for
		// the next event.
		if len(content) == 0 || content[0] == ':' && first {
			return s.event()
		}
	}
}

// lateLF steps over the LF of a CR LF if the CR was the last byte when its line was
// read. It reports whether the line's event was returned with the CR.
func (s *splitter) lateLF() bool {
	if !s.afterCR || s.line == len(s.buffer) {
		return false
	}
	s.afterCR = false
	if s.buffer[s.line] != '\n' {
		return false
	}
	s.line++
	s.at = s.line
	return s.line == s.start+1
}

// rest returns the bytes after the last complete event at the stream's end; nil if there
// are none.
func (s *splitter) rest() *Event {
	if s.line = len(s.buffer); s.line == s.start {
		return nil
	}
	s.at = s.line
	return s.event()
}

// take returns the lines of the current event.
func (s *splitter) take() []byte {
	raw := s.buffer[s.start:s.line:s.line]
	s.start = s.line
	return raw
}

// withoutMark removes the byte order mark from the stream's first line.
func (s *splitter) withoutMark(content []byte) []byte {
	if s.begun {
		return content
	}
	s.begun = true
	return bytes.TrimPrefix(content, byteOrderMark)
}

var byteOrderMark = []byte("\ufeff")

// tooLarge reports whether the current event exceeds the limit.
func (s *splitter) tooLarge() bool { return len(s.buffer)-s.start > s.limit }

// room drops the bytes of returned events, and makes room for so many bytes.
func (s *splitter) room(size int) error {
	if s.start > 0 {
		s.buffer = s.buffer[:copy(s.buffer, s.buffer[s.start:])]
		s.line -= s.start
		s.at -= s.start
		s.start = 0
	}
	switch {
	case cap(s.buffer)-len(s.buffer) < size:
		return s.resize(2*cap(s.buffer) + size)
	case cap(s.buffer) > keptSize && len(s.buffer) < keptSize/2:
		s.joined = nil
		return s.resize(keptSize) // the large event is over
	}
	return nil
}

// resize changes the buffer's capacity. It reserves twice that memory, since the data of
// an event are joined, and perhaps written again.
func (s *splitter) resize(capacity int) error {
	if wanted := 2 * int64(max(0, capacity-keptSize)); s.Reserve != nil && wanted != s.reserved {
		if err := s.Reserve(wanted - s.reserved); err != nil {
			return err
		}
		s.reserved = wanted
	}
	s.buffer = append(make([]byte, 0, capacity), s.buffer...)
	return nil
}

// Splitter splits a stream into events as somebody else reads it.
type Splitter struct{ splitter }

// NewSplitter takes events of at most limit bytes.
func NewSplitter(limit int) *Splitter { return &Splitter{splitter{limit: limit}} }

// Split hands the events that p completes to take. They are valid until take returns. The error
// is [ErrTooLarge], or that of Reserve: the Splitter must not be used any more then.
func (s *Splitter) Split(p []byte, take func(*Event)) error {
	if err := s.room(len(p)); err != nil {
		return err
	}
	s.buffer = append(s.buffer, p...)
	for e := s.next(); e != nil; e = s.next() {
		take(e)
	}
	if s.tooLarge() {
		return ErrTooLarge
	}
	return nil
}

// Rest returns the incomplete event at the stream's end; nil if there is none.
func (s *Splitter) Rest() *Event { return s.rest() }

// Decoder splits a stream that it reads into events.
type Decoder struct {
	splitter
	r   io.Reader
	err error // of the last read or Reserve
}

// NewDecoder reads events of at most limit bytes from r.
func NewDecoder(r io.Reader, limit int) *Decoder {
	return &Decoder{splitter: splitter{limit: limit}, r: r}
}

// Next returns the next event as soon as its last byte has come. An incomplete event at
// the stream's end counts too: clients should drop it, and some do not. The error is
// io.EOF at the stream's end, [ErrTooLarge], or the reader's.
func (d *Decoder) Next() (*Event, error) {
	for {
		if e := d.next(); e != nil {
			if len(e.Raw) > d.limit { // one read may bring more than the limit
				return nil, ErrTooLarge
			}
			return e, nil
		}
		switch {
		case d.tooLarge():
			return nil, ErrTooLarge
		case d.err != nil:
			if e := d.rest(); e != nil {
				return e, nil
			}
			return nil, d.err
		}
		if err := d.room(readSize); err != nil {
			return nil, err
		}
		var n int
		n, d.err = d.r.Read(d.buffer[len(d.buffer):cap(d.buffer)])
		d.buffer = d.buffer[:len(d.buffer)+n]
	}
}
