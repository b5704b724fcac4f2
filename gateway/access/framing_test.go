package access

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
)

func watchAll(stream []byte, step int) *framing {
	f := &framing{}
	for len(stream) > 0 {
		n := min(step, len(stream))
		f.watch(stream[:n])
		stream = stream[n:]
	}
	return f
}

// FuzzFramingMissesNoAmbiguity compares the framing check with net/http: a
// request that the server would hand to a handler, and in which both lengths
// stand, must have been noticed, wherever on the connection it stands.
func FuzzFramingMissesNoAmbiguity(f *testing.F) {
	seeds := []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST / HTTP/1.1\nHost: a\ncontent-length: 3\n\nabcPOST / HTTP/1.1\nHost: a\ntransfer-encoding: chunked\ncontent-length: 0\n\n0\n\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nTrailer: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, bytewise := watchAll(stream, len(stream)+1), watchAll(stream, 1)
		if whole.ambiguous.Load() != bytewise.ambiguous.Load() {
			t.Fatal("what is noticed depends on how the connection is read")
		}
		if ambiguousRequest(stream) && !whole.ambiguous.Load() {
			t.Fatalf("a request with two lengths was not noticed in %q", stream)
		}
	})
}

// ambiguousRequest reads requests as the server does, and reports whether one
// that it accepts had both lengths in its header.
func ambiguousRequest(stream []byte) bool {
	reader := bytes.NewReader(stream)
	for {
		buffered := bufio.NewReader(reader)
		start := len(stream) - reader.Len()
		request, err := http.ReadRequest(buffered)
		if err != nil {
			return false
		}
		end := len(stream) - reader.Len() - buffered.Buffered()
		if bothLengths(stream[start:end]) {
			return true
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return false
		}
		rest := len(stream) - reader.Len() - buffered.Buffered()
		reader = bytes.NewReader(stream)
		if _, err := reader.Seek(int64(rest), io.SeekStart); err != nil {
			return false
		}
	}
}

func bothLengths(header []byte) bool {
	reader := textproto.NewReader(bufio.NewReader(bytes.NewReader(header)))
	if _, err := reader.ReadLine(); err != nil {
		return false
	}
	fields, err := reader.ReadMIMEHeader()
	return err == nil && len(fields["Content-Length"]) > 0 && len(fields["Transfer-Encoding"]) > 0
}

func BenchmarkFraming(b *testing.B) {
	request := []byte("POST /servers/calculator/mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: node\r\nContent-Type: application/json\r\n" +
		"Accept: application/json, text/event-stream\r\nAuthorization: Bearer mcpt_0123456789012345678901234567890123456789012345678\r\n" +
		"Mcp-Session-Id: 0123456789\r\nMcp-Protocol-Version: 2025-11-25\r\nContent-Length: 200\r\n\r\n" + strings.Repeat("x", 200))
	f := &framing{}
	b.ReportAllocs()
	for b.Loop() {
		f.watch(request)
	}
	if f.ambiguous.Load() {
		b.Fatal("ambiguous")
	}
}
