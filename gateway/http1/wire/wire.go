// Package wire reads what requests and answers of HTTP/1.1 have in common, and what decides where one
// ends: lines, fields and chunks (RFC 9112, sections 2.2, 5 and 7.1). The server of gateway/http1 reads
// requests with it, and gateway/mcp/direct reads answers. It works on bytes that are there: whoever
// has the connection reads more, and says how long it waits.
//
// It is strict where the RFC lets a reader be lenient: programs in front of the gateway or behind it
// may be lenient in another way, and take other bytes for the next message.
package wire

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	// MaxFields bounds the fields of a header. Each costs many times its bytes.
	MaxFields = 256

	// maxChunkLine bounds the line before a chunk, and maxOverhead what the lines of a body
	// may have beyond 16 bytes each and as much as the chunks themselves.
	maxChunkLine = 128
	maxOverhead  = 16 << 10
)

// What is wrong with a message. None of it is quoted: it may hold anything.
var (
	ErrLineEnd   = errors.New("a line does not end with CRLF")
	ErrFirstLine = errors.New("the first line is empty")
	ErrField     = errors.New("a header line is not valid")
	ErrTooMany   = errors.New("the header has too many lines")
	ErrChunk     = errors.New("the chunks of the body are not valid")
)

// ScanHead looks for the end of a header in b, which begins with the first line. It goes on at a line's
// start, and returns where it must go on; end is 0 while there is none.
func ScanHead(b []byte, line int) (end, next int, err error) {
	for {
		i := bytes.IndexByte(b[line:], '\n')
		switch {
		case i < 0:
			return 0, line, nil
		case i == 0 || b[line+i-1] != '\r':
			return 0, 0, ErrLineEnd
		case i == 1 && line == 0:
			return 0, 0, ErrFirstLine
		case i == 1:
			return line + 2, 0, nil
		}
		line += i + 1
	}
}

// Field is a header line: places in the header.
type Field struct {
	name, colon, value, end int

	// Tabbed: a tab stands behind the value. To some parsers it is part of it.
	Tabbed bool
}

// Name returns the field's name in its canonical form. text is the header.
func (f *Field) Name(text string) string { return text[f.name:f.colon] }

// Value returns the field's value. A caller must check its characters.
func (f *Field) Value(text string) string { return text[f.value:f.end] }

// SplitFields appends the lines of a whole header, from the one that begins at line on. It changes the
// bytes: names get their canonical form.
func SplitFields(b []byte, line int, fields []Field) ([]Field, error) {
	for b[line] != '\r' || b[line+1] != '\n' {
		end := line + bytes.IndexByte(b[line:], '\n') - 1
		f := Field{name: line, end: end}
		if !f.split(b) {
			return nil, ErrField
		}
		if fields = append(fields, f); len(fields) > MaxFields {
			return nil, ErrTooMany
		}
		line = end + 2
	}
	return fields, nil
}

// IsField reports whether a line, without its end, is a valid field.
func IsField(line []byte) bool {
	f := Field{end: len(line)}
	return f.split(line) && httpguts.ValidHeaderFieldValue(string(line[f.value:f.end]))
}

// split finds the parts of a line, and gives the name its canonical form. A line that continues the
// one before, or with a space before its colon, has no valid name (RFC 9112, section 5).
func (f *Field) split(b []byte) bool {
	i := f.name
	for upper := true; i < f.end && b[i] != ':'; i++ {
		c := b[i]
		if !httpguts.IsTokenRune(rune(c)) {
			return false
		}
		if upper && 'a' <= c && c <= 'z' || !upper && 'A' <= c && c <= 'Z' {
			b[i] ^= 0x20
		}
		upper = c == '-'
	}
	if i == f.name || i == f.end {
		return false
	}
	f.colon = i
	for f.value = i + 1; f.value < f.end && (b[f.value] == ' ' || b[f.value] == '\t'); f.value++ {
	}
	for ; f.end > f.value && (b[f.end-1] == ' ' || b[f.end-1] == '\t'); f.end-- {
		f.Tabbed = f.Tabbed || b[f.end-1] == '\t'
	}
	return true
}

// cutLine returns the first line of b, which has at most so many bytes with its CRLF, and its length with
// that; 0 while its end is not there.
func cutLine(b []byte, most int) (line []byte, length int, err error) {
	b = b[:min(len(b), most)]
	switch i := bytes.IndexByte(b, '\n'); {
	case i < 0 && len(b) < most:
		return nil, 0, nil
	case i < 1 || b[i-1] != '\r':
		return nil, 0, ErrChunk
	default:
		return b[:i-1], i + 1, nil
	}
}

// LineReader reads a line that ends with CRLF, and has at most so many bytes with it.
type LineReader interface {
	Line(most int) ([]byte, error)
}

// Chunks are the lines around the chunks of a body.
type Chunks struct {
	begun    bool // a chunk, whose end is to come
	overhead int
}

// Next reads the end of the chunk before, and the line of the next one. The size is 0 at the last
// chunk, behind which trailers may stand.
func (c *Chunks) Next(from LineReader) (size int64, err error) {
	if c.begun {
		if err := LineEnd(from); err != nil {
			return 0, err
		}
	}
	line, err := from.Line(maxChunkLine)
	if err != nil {
		return 0, err
	}
	size, ok := chunkSize(string(line))
	if !ok {
		return 0, ErrChunk
	}
	if c.overhead = max(c.overhead+len(line)+2-16-int(min(2*size, maxOverhead)), 0); c.overhead > maxOverhead {
		return 0, ErrChunk
	}
	c.begun = true
	return size, nil
}

// LineEnd reads an empty line.
func LineEnd(from LineReader) error {
	line, err := from.Line(2)
	if err == nil && len(line) > 0 {
		err = ErrChunk
	}
	return err
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
