package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// message has the parts of an HTTP/1.1 request's or answer's head that the rig needs.
type message struct {
	method, path string // of a request
	status       int    // of an answer
	length       int    // of the body; -1: chunked
	session      string // Mcp-Session-Id
}

var (
	headerLength   = []byte("content-length:")
	headerEncoding = []byte("transfer-encoding:")
	headerSession  = []byte("mcp-session-id:")
)

// readHead reads a message's first line and its header.
func readHead(r *bufio.Reader) (message, error) {
	var m message
	line, err := r.ReadSlice('\n')
	if err != nil {
		return m, err
	}
	first, rest, _ := bytes.Cut(line, []byte(" "))
	if bytes.HasPrefix(first, []byte("HTTP/1.1")) {
		code, _, _ := bytes.Cut(rest, []byte(" "))
		if m.status, err = strconv.Atoi(string(bytes.TrimSpace(code))); err != nil {
			return m, fmt.Errorf("the status line is %q", line)
		}
	} else {
		path, _, _ := bytes.Cut(rest, []byte(" "))
		m.method, m.path = string(first), string(path)
	}
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return m, err
		}
		switch {
		case len(line) <= 2:
			return m, nil
		case foldPrefix(line, headerLength):
			if m.length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(headerLength):]))); err != nil {
				return m, err
			}
		case foldPrefix(line, headerEncoding):
			m.length = -1
		case foldPrefix(line, headerSession):
			m.session = string(bytes.TrimSpace(line[len(headerSession):]))
		}
	}
}

func foldPrefix(line, prefix []byte) bool {
	return len(line) >= len(prefix) && bytes.EqualFold(line[:len(prefix)], prefix)
}

// readBody reads a whole body, into buffer if that is large enough.
func (m *message) readBody(r *bufio.Reader, buffer []byte) ([]byte, error) {
	if m.length >= 0 {
		buffer = grow(buffer[:0], m.length)
		_, err := io.ReadFull(r, buffer)
		return buffer, err
	}
	buffer = buffer[:0]
	for {
		chunk, err := readChunk(r, &buffer)
		if err != nil || chunk == 0 {
			return buffer, err
		}
	}
}

// readChunk appends one chunk. The last one is of length 0.
func readChunk(r *bufio.Reader, buffer *[]byte) (int, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
	if err != nil {
		return 0, fmt.Errorf("a chunk's size is %q", line)
	}
	start := len(*buffer)
	*buffer = grow(*buffer, int(size))
	if _, err := io.ReadFull(r, (*buffer)[start:]); err != nil {
		return 0, err
	}
	if n, err := r.Discard(2); err != nil || n != 2 {
		return 0, errors.Join(err, errors.New("a chunk has no end"))
	}
	return int(size), nil
}

// grow lengthens b by n bytes of any content.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) < n {
		b = append(make([]byte, 0, 2*(len(b)+n)), b...)
	}
	return b[:len(b)+n]
}
