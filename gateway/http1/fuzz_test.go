package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
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
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Number", strconv.Itoa(len(all)))
		got := received{request: r}
		got.body, got.err = io.ReadAll(r.Body)
		got.next = len(in) - len(client.in) - c.in.Len()
		all = append(all, got)
	})
	c.serve()
	answered := client.answered.String()
	answers := bufio.NewReader(strings.NewReader(answered))
	for i := 0; i < len(all); {
		response, err := http.ReadResponse(answers, all[i].request)
		if err != nil {
			panic(fmt.Sprintf("the answer is not valid: %v\nto %q:\n%q", err, in, answered))
		}
		if response.Header["Number"] == nil {
			continue // 100 Continue, or the answer to a request that no handler gets
		}
		if i++; response.Header.Get("Number") != strconv.Itoa(i-1) {
			panic("the answers are not in order")
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			panic("the answer's body is not valid: " + err.Error())
		}
	}
	return all
}

// FuzzRequestsAreReadAsOthersReadThem: what the server hands to its handler, and where it takes
// the next request to start, is what net/http and Node read there. It may refuse more.
func FuzzRequestsAreReadAsOthersReadThem(f *testing.F) {
	for _, seed := range seeds() {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed+"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"), uint8(2))
	}
	n := startNode(f)
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		if err := examine(in, int(step), n); err != nil {
			t.Fatalf("%v\nin %q", err, in)
		}
	})
}

// seeds are requests of all kinds, and the attacks of the framing tests.
var seeds = sync.OnceValue(func() []string {
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
	for _, test := range refused {
		all = append(all, test.request)
	}
	for _, body := range broken {
		all = append(all, post(body, "Transfer-Encoding: chunked"))
	}
	slices.Sort(all) // a map has no order
	return append(all, slices.Sorted(maps.Values(accepted))...)
})
