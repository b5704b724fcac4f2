package direct

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

// said are the bytes that a server has sent, as a connection.
type said struct {
	net.Conn
	*bytes.Reader
}

func (s said) Read(p []byte) (int, error) { return s.Reader.Read(p) }
func (said) Close() error                 { return nil }

// hear reads an answer with this package. rest is what follows it, if that can be told.
func hear(b []byte, method string) (response *http.Response, body, rest []byte, err error) {
	c := &conn{socket: newSocket(said{Reader: bytes.NewReader(b)})}
	c.layer, c.ctx = c.socket, context.Background()
	a, err := c.answer(method)
	if err != nil {
		return nil, nil, nil, err
	}
	body, err = io.ReadAll(struct{ io.Reader }{readerOf(a)})
	rest, _ = io.ReadAll(io.MultiReader(bytes.NewReader(c.in.Bytes()), c.socket))
	return &a.Response, body, rest, err
}

// readerOf reads the body, and leaves its connection alone.
func readerOf(a *answer) io.Reader {
	return readerFunc(func(p []byte) (int, error) { return a.body.read(p) })
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Answers that are read, and those that are not.
var (
	answersRead = map[string]string{
		"a length":                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
		"no phrase":               "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
		"an empty phrase":         "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
		"chunks":                  "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nbo\r\n02;a=b\r\ndy\r\n0\r\nExpires: 0\r\n\r\n",
		"the end":                 "HTTP/1.1 200 OK\r\n\r\nbody",
		"HTTP/1.0":                "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
		"HTTP/1.0 and the end":    "HTTP/1.0 200 OK\r\n\r\nbody",
		"no content":              "HTTP/1.1 204 No Content\r\n\r\n",
		"nothing new":             "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
		"spaces around values":    "HTTP/1.1 200 OK\r\nX: \t a b \t\r\nY:\r\nContent-Length:0\r\n\r\n",
		"names in any letters":    "HTTP/1.1 200 OK\r\ncontent-LENGTH: 0\r\nmcp-session-id: x\r\nMcp-Session-ID: y\r\n\r\n",
		"bytes beyond ASCII":      "HTTP/1.1 200 \xc3\xa4\r\nX: \xff\r\nContent-Length: 0\r\n\r\n",
		"a length and chunks":     "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		"an end of the line":      "HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 4\r\n\r\nbody",
		"a status beyond the RFC": "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n",
	}
	answersRefused = map[string]string{
		"nothing":                        "",
		"no HTTP":                        "220 smtp\r\n\r\n",
		"an empty line first":            "\r\nHTTP/1.1 200 OK\r\n\r\n",
		"another version":                "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.2":                       "HTTP/1.2 200 OK\r\n\r\n",
		"no space":                       "HTTP/1.1200 OK\r\n\r\n",
		"two spaces":                     "HTTP/1.1  200 OK\r\n\r\n",
		"a status of two digits":         "HTTP/1.1 20 OK\r\n\r\n",
		"a status of four":               "HTTP/1.1 2000 OK\r\n\r\n",
		"a status below 100":             "HTTP/1.1 099 OK\r\n\r\n",
		"a status with a sign":           "HTTP/1.1 +20 OK\r\n\r\n",
		"a NUL in the phrase":            "HTTP/1.1 200 O\x00K\r\n\r\n",
		"a bare LF":                      "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
		"a bare LF in the first line":    "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
		"a bare CR":                      "HTTP/1.1 200 OK\r\nA: b\rC: d\r\nContent-Length: 0\r\n\r\n",
		"a line that goes on":            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"a space before the colon":       "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
		"a name with a space":            "HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n",
		"no colon":                       "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
		"no name":                        "HTTP/1.1 200 OK\r\n: 0\r\n\r\n",
		"a NUL in a value":               "HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n",
		"two lengths":                    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
		"one length twice":               "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
		"a list of lengths":              "HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\n\r\nbody",
		"a length with a sign":           "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nbody",
		"a length below 0":               "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"a length in other digits":       "HTTP/1.1 200 OK\r\nContent-Length: 0x4\r\n\r\nbody",
		"no length in it":                "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
		"too long":                       "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n",
		"another coding":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"two codings":                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"no coding in it":                "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
		"chunks of HTTP/1.0":             "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a body that ends early":         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody",
		"a header that ends early":       "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
		"a header that is too large":     "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", maxHeader) + "\r\n\r\n",
		"too many lines":                 "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", wire.MaxFields+1) + "\r\n",
		"hints without an end":           strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 4000),
		"chunks that end early":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
		"a chunk that is too long":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbody\r\n0\r\n\r\n",
		"a chunk with a sign":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+4\r\nbody\r\n0\r\n\r\n",
		"a chunk of 2^64":                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000004\r\nbody\r\n0\r\n\r\n",
		"a chunk with a bare LF":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\nbody\r\n0\r\n\r\n",
		"a chunk that a bare LF ends":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\n0\r\n\r\n",
		"an extension with quotes":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"\r\nbody\r\n0\r\n\r\n",
		"an extension that is too long":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=" + strings.Repeat("b", 128) + "\r\nbody\r\n0\r\n\r\n",
		"extensions more than the body":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;a="+strings.Repeat("b", 100)+"\r\nb\r\n", 300) + "0\r\n\r\n",
		"a trailer that is not valid":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA b\r\n\r\n",
		"a trailer that is too long":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + strings.Repeat("b", streamSize) + "\r\n\r\n",
		"trailers without an end":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: b\r\n", maxHeader/4),
		"something else than a protocol": "HTTP/1.1 20O OK\r\n\r\n",
	}
)

func TestAnswersThatAreRead(t *testing.T) {
	for name, text := range answersRead {
		t.Run(name, func(t *testing.T) { require.True(t, compare(t, []byte(text), http.MethodPost), "it is not read") })
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	for name, text := range answersRefused {
		t.Run(name, func(t *testing.T) {
			_, body, _, err := hear([]byte(text), http.MethodPost)
			require.Error(t, err, "%q", body)
		})
	}
}

// compare reads an answer with this package and with net/http, which must read the same if this one
// reads it at all, and reports whether it does.
func compare(t *testing.T, b []byte, method string) bool {
	t.Helper()
	ours, body, rest, err := hear(b, method)
	if err != nil {
		return false
	}
	reader := bufio.NewReader(bytes.NewReader(b))
	var theirs *http.Response
	for theirs == nil || theirs.StatusCode < 200 && theirs.StatusCode != http.StatusSwitchingProtocols {
		theirs, err = http.ReadResponse(reader, &http.Request{Method: method})
		require.NoError(t, err)
	}
	theirBody, err := io.ReadAll(theirs.Body)
	require.NoError(t, err)
	theirRest, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.Equal(t, string(theirBody), string(body))
	require.Equal(t, string(theirRest), string(rest), "where the next one begins")
	require.Equal(t, []any{theirs.Status, theirs.StatusCode, theirs.Proto}, []any{ours.Status, ours.StatusCode, ours.Proto})
	if method != http.MethodHead && theirs.Body != http.NoBody { // else what is said of a body means nothing here
		require.Equal(t, []any{theirs.ContentLength, theirs.TransferEncoding}, []any{ours.ContentLength, ours.TransferEncoding})
	}
	require.True(t, ours.Close || !theirs.Close, "whoever ends the connection for net/http does so here")
	// net/http moves some into fields of the answer, and adds one for caches.
	for _, name := range []string{"Trailer", "Cache-Control", "Content-Length", "Connection"} {
		delete(ours.Header, name)
		delete(theirs.Header, name)
	}
	require.Equal(t, theirs.Header, ours.Header)
	return true
}

// FuzzAnswersAreReadAsNetHTTPReadsThem compares the two readings.
func FuzzAnswersAreReadAsNetHTTPReadsThem(f *testing.F) {
	for _, texts := range []map[string]string{answersRead, answersRefused} {
		for _, text := range texts {
			f.Add([]byte(text), false)
			f.Add([]byte(text+"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		compare(t, b, map[bool]string{true: http.MethodHead, false: http.MethodPost}[head])
	})
}
