// Package sse reads streams of server-sent events and keeps every byte: a caller can
// forward an event as it came, or with other data. It writes them to clients that may be
// slow, or gone.
//
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
package sse

import (
	"bytes"
	"strings"
)

// Event is one event, or a separate comment. It is valid until the decoder's next call.
type Event struct {
	// Raw is the whole event as it came, with its blank line. The Raws of all
	// events together are the stream.
	Raw []byte
	// Data is the event's data: its data lines, joined by line feeds.
	Data []byte
	// HasData is true for an event with empty data, and false for one without.
	HasData bool
	// Type is the event's type; "" means "message".
	Type []byte

	first     bool // it is the first of its stream
	late      bool // it is the LF of a CR LF whose CR ended the event before
	id, retry []byte
}

// ID returns the id that the event gives the stream; empty if it gives none.
func (e *Event) ID() []byte { return e.id }

// IsMessage reports whether clients of MCP read the event as a message.
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

// Rewrite appends the event to dst with other data. It writes only the fields that
// clients use, so that no client reads more in it than the gateway has read. For one of
// several streams, prefix goes before the event's id and names the stream; "" drops the
// id.
func (e *Event) Rewrite(dst, data []byte, prefix string) []byte {
	return e.rewrite(dst, data, prefix, prefix != "")
}

// Plain is Rewrite for the event's own stream: the id stays as it is.
func (e *Event) Plain(dst, data []byte) []byte { return e.rewrite(dst, data, "", true) }

// notInID are characters that an id cannot have, or at which some parsers end a line though the
// standard does not: whoever reads lines by Python's splitlines, for one.
const notInID = "\x00\v\f\x1c\x1d\x1e" + otherLineEnds

const otherLineEnds = "\u0085\u2028\u2029"

var escapedLineEnds = strings.NewReplacer("\u0085", `\u0085`, "\u2028", `\u2028`, "\u2029", `\u2029`)

// OneLine returns the JSON text without characters at which some parsers end a line though the
// standard does not. They are in strings only, and get escapes there.
func OneLine(message []byte) []byte {
	has := func(end string) bool { return bytes.Contains(message, []byte(end)) } // many times as fast as ContainsAny
	if !has("\u0085") && !has("\u2028") && !has("\u2029") {
		return message
	}
	return []byte(escapedLineEnds.Replace(string(message)))
}

func (e *Event) rewrite(dst, data []byte, prefix string, named bool) []byte {
	if e.late {
		return dst // its event was written whole
	}
	begin := len(dst)
	if named && len(e.id) > 0 && !bytes.ContainsAny(e.id, notInID) {
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

// AppendData appends data as data lines to dst, without the blank line that ends an
// event.
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

// event returns the event of the lines that were read.
func (s *splitter) event() *Event {
	e := &Event{Raw: s.take(), first: !s.handed}
	s.handed = true
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
				s.joined = append(s.joined[:0], e.Data...)
				joined = true
			}
			s.joined = append(s.joined, '\n')
			s.joined = append(s.joined, value...)
		case string(name) == "event":
			e.Type = value
		case string(name) == "id":
			e.id = value
		case string(name) == "retry":
			e.retry = value
		}
	}
	if joined {
		e.Data = s.joined
	}
	return e
}

// isData reports whether the line is one of data.
func isData(content []byte) bool {
	name, _, _ := bytes.Cut(content, []byte(":"))
	return string(name) == "data"
}

// lines finds the lines of an event again when they are needed. Their list would take
// many times the memory of an event with short lines.
type lines struct {
	rest []byte
	cr   bool // some end with a CR
	mark bool // the first may begin with the stream's byte order mark
}

func (e *Event) lines() lines {
	return lines{rest: e.Raw, cr: bytes.IndexByte(e.Raw, '\r') >= 0, mark: e.first}
}

// next returns the next line: its content, and the line with its end.
func (l *lines) next() (content, whole []byte, ok bool) {
	if len(l.rest) == 0 {
		return nil, nil, false
	}
	var end int
	if l.cr {
		end = bytes.IndexAny(l.rest, "\r\n")
	} else {
		end = bytes.IndexByte(l.rest, '\n') // faster, where no CR can come first
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
