package http1

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stream is a connection whose client has sent all that it will, and reads nothing.
type stream struct {
	in       []byte
	step     int // bytes that a read gets at most
	answered bytes.Buffer
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(len(s.in), s.step)])
	s.in = s.in[n:]
	return n, nil
}

func (s *stream) Write(p []byte) (int, error)      { return s.answered.Write(p) }
func (s *stream) Close() error                     { return nil }
func (s *stream) LocalAddr() net.Addr              { return nil }
func (s *stream) RemoteAddr() net.Addr             { return nil }
func (s *stream) SetDeadline(time.Time) error      { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// received is a request as it was read.
type received struct {
	request *http.Request
	body    []byte
	err     error
	next    int // where the next request starts
}

// readAll has our server read a stream. The request whose body is cut or broken comes last.
func readAll(in []byte, step int) []received {
	var all []received
	client := &stream{in: bytes.Clone(in), step: step}
	server := &Server{MaxHeaderBytes: 32 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	c := &conn{server: server, net: client}
	c.listed.Store(true) // no lookout: its goroutines would only cost time
	server.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got := received{request: r}
		got.body, got.err = io.ReadAll(r.Body)
		got.next = len(in) - len(client.in) - (c.end - c.start)
		all = append(all, got)
	})
	c.serve()
	answers := bufio.NewReader(&client.answered)
	for i := range all {
		response, err := http.ReadResponse(answers, all[i].request)
		if err != nil {
			panic("the answer is not valid: " + err.Error())
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			panic("the answer's body is not valid: " + err.Error())
		}
	}
	return all
}

// readTheirs has net/http read one request.
func readTheirs(in []byte) (got *received, rest []byte, err error) {
	in = bytes.TrimPrefix(in, []byte("\r\n"))
	reader := bytes.NewReader(in)
	buffered := bufio.NewReader(reader)
	got = new(received)
	if got.request, err = http.ReadRequest(buffered); err != nil {
		return nil, nil, err
	}
	got.body, got.err = io.ReadAll(got.request.Body)
	return got, in[len(in)-reader.Len()-buffered.Buffered():], nil
}

func requireSame(t *testing.T, theirs, ours *received) {
	t.Helper()
	a, b := theirs.request, ours.request
	require.Equal(t, a.Method, b.Method)
	require.Equal(t, a.RequestURI, b.RequestURI)
	require.Equal(t, a.URL, b.URL)
	require.Equal(t, a.Proto, b.Proto)
	require.Equal(t, []int{a.ProtoMajor, a.ProtoMinor}, []int{b.ProtoMajor, b.ProtoMinor})
	require.Equal(t, a.Host, b.Host)
	require.Equal(t, a.ContentLength, b.ContentLength)
	require.Equal(t, a.TransferEncoding, b.TransferEncoding)
	if a.ProtoMinor > 0 {
		require.Equal(t, a.Close, b.Close)
	}
	header := a.Header
	delete(header, "Host") // http.Server deletes it
	delete(header, "Trailer")
	if header.Get("Pragma") == "no-cache" && b.Header["Cache-Control"] == nil {
		delete(header, "Cache-Control") // net/http adds it
	}
	require.Equal(t, header, b.Header)
	require.Equal(t, theirs.err == nil, ours.err == nil, "%v, %v", theirs.err, ours.err)
	if theirs.err == nil {
		require.True(t, bytes.Equal(theirs.body, ours.body), "%q, %q", theirs.body, ours.body)
	}
	require.Nil(t, b.Trailer)
}

// FuzzRequestsAreReadAsNetHTTPReadsThem: what the server hands to its handler, and where it takes
// the next request to start, is what net/http reads there. It may refuse more.
func FuzzRequestsAreReadAsNetHTTPReadsThem(f *testing.F) {
	for _, seed := range seeds() {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed+"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"), uint8(2))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		ours := readAll(in, len(in)+1)
		if step > 0 {
			others := readAll(in, max(int(step), len(in)/256))
			require.Len(t, others, len(ours), "what is read depends on how it comes")
			for i := range others {
				requireSame(t, &others[i], &ours[i])
				require.True(t, ours[i].err != nil || others[i].next == ours[i].next)
			}
		}
		rest := in
		for i := 0; i < len(ours); i++ {
			if bytes.HasPrefix(rest, []byte("\r\n\r\n")) {
				t.Fatal("two empty lines are no request")
			}
			theirs, after, err := readTheirs(rest)
			require.NoError(t, err, "net/http refuses what is accepted: %q", rest)
			if theirs.request.Method == http.MethodOptions && theirs.request.RequestURI == "*" && theirs.err == nil {
				i, rest = i-1, after // no handler gets it
				continue
			}
			if ours[i].err == nil || theirs.err != nil {
				requireSame(t, theirs, &ours[i])
			}
			if ours[i].err != nil {
				require.Len(t, ours, i+1, "a request follows a body that is not valid")
				return
			}
			require.Equal(t, len(in)-len(after), ours[i].next, "where the next request starts")
			rest = after
		}
	})
}

// seeds are requests of all kinds, and the attacks of the framing tests.
func seeds() []string {
	all := []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST / HTTP/1.1\nHost: a\ncontent-length: 3\n\nabcPOST / HTTP/1.1\nHost: a\ntransfer-encoding: chunked\ncontent-length: 0\n\n0\n\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nTrailer: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\nExpect: 100-continue\r\nTE: trailers\r\n\r\n",
		"GET http://u:p@h:1/p%20?q#f HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT [::1]:443 HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT /x HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.0\r\nPragma: no-cache\r\nTrailer: x\r\n\r\n", "HEAD //a//b;c=%2F HTTP/1.1\r\nHost: [::1%25a]:1\r\nCookie: a=b\r\nCookie: c\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000000003\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n000000000000003\r\nabc\r\n0;a=b;c\r\nX: y\r\nZ:\r\n\r\n",
		"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000),
	}
	return all
}
