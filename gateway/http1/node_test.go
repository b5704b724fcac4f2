package http1

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// node is a process that reads requests with Node's parser. It ends with its standard input, and so
// with this program.
type node struct {
	in  io.Writer
	out *bufio.Reader
}

// nodeMessage is a request as Node reads it.
type nodeMessage struct {
	method, target string
	major, minor   int
	header         http.Header
	headEnd, end   int // the pieces in which they are
	complete       bool
	body           string
}

// nodeReading is what Node makes of a stream.
type nodeReading struct {
	messages []nodeMessage
	refusal  string // its code for the rest; empty: none
}

// startNode returns nil on a machine without Node, except where the tests need it.
func startNode(t testing.TB) *node {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("TEST_FIELD") == "required" {
			t.Fatal("node is missing on this machine (Debian: apt-get install nodejs)")
		}
		t.Log("not compared with Node, which is missing on this machine")
		return nil
	}
	cmd := exec.Command(path, "--no-warnings", "--expose-internals", "testdata/llhttp.js")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &node{in, bufio.NewReaderSize(out, 1<<20)}
}

// read has Node read streams, each in pieces.
func (n *node) read(streams [][][]byte) ([]nodeReading, error) {
	batch := make([]byte, 4, 1<<16)
	for _, pieces := range streams {
		batch = binary.LittleEndian.AppendUint16(batch, uint16(len(pieces)))
		for _, piece := range pieces {
			batch = append(binary.LittleEndian.AppendUint32(batch, uint32(len(piece))), piece...)
		}
	}
	binary.LittleEndian.PutUint32(batch, uint32(len(batch)-4))
	if _, err := n.in.Write(batch); err != nil {
		return nil, err
	}
	answer, err := n.block()
	if err != nil {
		return nil, err
	}
	readings := make([]nodeReading, len(streams))
	for i := range readings {
		if len(answer) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		size := binary.LittleEndian.Uint32(answer)
		if readings[i], err = parseReading(answer[4 : 4+size]); err != nil {
			return nil, err
		}
		answer = answer[4+size:]
	}
	return readings, nil
}

func (n *node) block() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(n.out, size[:]); err != nil {
		return nil, fmt.Errorf("node has ended: %w", err)
	}
	block := make([]byte, binary.LittleEndian.Uint32(size[:]))
	_, err := io.ReadFull(n.out, block)
	return block, err
}

// parseReading reads the lines of testdata/llhttp.js.
func parseReading(text []byte) (r nodeReading, err error) {
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		switch line[0] {
		case 'M':
			var m nodeMessage
			if text, err = m.parseHead(string(line), text); err != nil {
				return r, err
			}
			r.messages = append(r.messages, m)
		case 'E', 'I':
			m, size := &r.messages[len(r.messages)-1], 0
			if _, err := fmt.Sscanf(string(line[2:]), "%d %d", &m.end, &size); err != nil {
				return r, err
			}
			m.complete, m.body, text = line[0] == 'E', string(text[:size]), text[size+1:]
		case 'X':
			r.refusal = string(line[2:])
		default:
			return r, errors.New("node has sent an unknown line")
		}
	}
	return r, nil
}

func (m *nodeMessage) parseHead(line string, text []byte) (rest []byte, err error) {
	fields := 0
	parts := strings.Split(line, " ")
	if len(parts) != 6 {
		return nil, fmt.Errorf("node has read a target with spaces: %q", line)
	}
	m.method, m.target = parts[1], parts[2]
	if _, err := fmt.Sscanf(strings.Join(parts[3:], " "), "%d.%d %d %d", &m.major, &m.minor, &m.headEnd, &fields); err != nil {
		return nil, err
	}
	m.header = make(http.Header, fields)
	for range fields {
		var name, value []byte
		name, text, _ = bytes.Cut(text, []byte("\n"))
		value, text, _ = bytes.Cut(text, []byte("\n"))
		m.header.Add(string(name), string(value))
	}
	return text, nil
}
