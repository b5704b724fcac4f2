package sse

import (
	"bytes"
	"io"
)

// Splitter is a [Decoder] for a stream that is pushed and not pulled: by a
// handler, say, that writes it.
type Splitter struct {
	// Reserve is as that of a [Decoder].
	Reserve func(bytes int64) error

	limit    int
	buffer   []byte // read, and not yet handed out
	reserved int64

	at    int  // what was looked at
	line  int  // start of the line that at is in
	begun bool // the first event was handed out
	cr    bool // the last byte handed out was the CR that ends an event
}

// NewSplitter takes events of at most limit bytes.
func NewSplitter(limit int) *Splitter { return &Splitter{limit: limit} }

// Push takes the stream's next bytes, and hands each event that they complete
// to emit. An error of emit ends the stream, and so does [ErrTooLarge].
func (s *Splitter) Push(p []byte, emit func(*Event) error) error {
	if s.cr && len(p) > 0 {
		// A CR alone ends a line, so its event did not wait for the LF.
		if p[0] == '\n' {
			p = p[1:]
		}
		s.cr = false
	}
	if err := s.reserve(len(s.buffer) + len(p)); err != nil {
		return err
	}
	s.buffer = append(s.buffer, p...)
	start := 0
	for end := s.next(start); end > 0; end = s.next(start) {
		if err := s.emit(s.buffer[start:end], emit); err != nil {
			return err
		}
		start = end
	}
	s.cr = start > 0 && start == len(s.buffer) && s.buffer[start-1] == '\r'
	rest := copy(s.buffer, s.buffer[start:])
	s.buffer = s.buffer[:rest]
	if cap(s.buffer) > keptSize && rest < keptSize/2 {
		s.buffer = append(make([]byte, 0, keptSize), s.buffer...) // the large event is over
	}
	s.at -= start
	s.line -= start
	if rest > s.limit {
		return ErrTooLarge
	}
	return nil
}

// reserve counts what events take beyond what most of them need.
func (s *Splitter) reserve(size int) error {
	wanted := 2 * int64(max(0, size-keptSize))
	if s.Reserve == nil || wanted == s.reserved {
		return nil
	}
	if err := s.Reserve(wanted - s.reserved); err != nil {
		return err
	}
	s.reserved = wanted
	return nil
}

// End hands out what stands behind the last complete event, as a Decoder does.
func (s *Splitter) End(emit func(*Event) error) error {
	if len(s.buffer) == 0 {
		return nil
	}
	rest := s.buffer
	s.buffer = nil
	return s.emit(rest, emit)
}

// next returns the end of the event at start, or 0 if not all of it is there.
func (s *Splitter) next(start int) int {
	for s.at < len(s.buffer) {
		if s.line == s.at && s.at > start && s.buffer[s.at-1] == '\r' && s.buffer[s.at] == '\n' {
			s.at++ // the LF of a CR that came before it
			s.line = s.at
			continue
		}
		i := bytes.IndexAny(s.buffer[s.at:], "\r\n")
		if i < 0 {
			s.at = len(s.buffer)
			return 0
		}
		stop := s.at + i
		content := s.buffer[s.line:stop]
		s.at = stop + 1
		if s.buffer[stop] == '\r' && s.at < len(s.buffer) && s.buffer[s.at] == '\n' {
			s.at++
		}
		first := s.line == start
		s.line = s.at
		if len(content) == 0 || content[0] == ':' && first {
			return s.at
		}
	}
	return 0
}

func (s *Splitter) emit(raw []byte, emit func(*Event) error) error {
	d := Decoder{buffer: raw[:len(raw):len(raw)], limit: len(raw), err: io.EOF, begun: s.begun}
	s.begun = true
	for {
		event, err := d.Next()
		if err != nil {
			return nil //nolint:nilerr // the end of these bytes
		}
		if err := emit(event); err != nil {
			return err
		}
	}
}
