package direct

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const pong = `{"jsonrpc":"2.0","id":1,"result":{}}`

func TestWhichConnectionsServeAnotherRequest(t *testing.T) {
	says := func(more bool, text string) func(io.Writer, string) bool {
		return func(w io.Writer, _ string) bool { _, _ = io.WriteString(w, text); return more }
	}
	whole := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(pong), pong)
	tests := map[string]struct {
		answer  func(w io.Writer, body string) bool
		accepts int // connections for three requests
	}{
		"after an answer of known length":       {says(true, "HTTP/1.1 200 OK\r\n"+whole), 1},
		"after an answer in chunks":             {says(true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n\r\n"), 1},
		"after chunks with extensions":          {says(true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b;c\r\n1234\r\n0;d\r\n\r\n"), 1},
		"after chunks with a trailer":           {says(true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\n1234\r\n0\r\nExpires: 0\r\n\r\n"), 1},
		"after an answer without a body":        {says(true, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"), 1},
		"after one that has none by its status": {says(true, "HTTP/1.1 204 No Content\r\n\r\n"), 1},
		"after one that was not modified":       {says(true, "HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n"), 1},
		"after answers before the answer":       {says(true, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"+whole), 1},

		"not after the server has closed it":                {says(false, "HTTP/1.1 200 OK\r\n"+whole), 3},
		"not after the server says it will":                 {says(true, "HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\n"+whole), 3},
		"not after an answer of HTTP/1.0":                   {says(true, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"+whole), 3},
		"not after an answer that ends with its connection": {says(false, "HTTP/1.1 200 OK\r\n\r\n"+pong), 3},
		"not after an answer with a length and chunks":      {says(true, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n\r\n"), 3},
		"not after an answer with something behind it":      {says(true, "HTTP/1.1 200 OK\r\n"+whole+"\n"), 3},
		"not after an answer with another behind it":        {says(true, strings.Repeat("HTTP/1.1 200 OK\r\n"+whole, 2)), 3},
		"not after chunks with something behind them":       {says(true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n0\r\n\r\n\r\n"), 3},
		"not after a body where there is none":              {says(true, "HTTP/1.1 204 No Content\r\n\r\n"+pong), 3},
		"not after a length where there is no body":         {says(true, "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"), 3},
		"not after chunks where there is no body":           {says(true, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"), 3},
		"not after a body where nothing is modified":        {says(true, "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n1234"), 3},
		"not after the change to another protocol":          {says(true, "HTTP/1.1 101 Switching Protocols\r\n\r\n"), 3},
	}
	for name, test := range tests {
		for way, secure := range ways {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				p := newAnsweringPeer(t, secure, test.answer)
				for i := range 3 {
					_, err := p.ask(t.Context(), "message")
					require.NoError(t, err)
					if test.accepts == 3 {
						// What comes late must have come, or it would prove nothing.
						eventually(t, "the connection to be of no use", func() bool {
							c := p.idle.take()
							if c != nil {
								p.idle.put(c)
							}
							return c == nil
						})
					}
					require.Equal(t, min(i+1, test.accepts), p.accepted())
				}
			})
		}
	}
}

func TestWhatComesUnaskedIsNobodysAnswer(t *testing.T) {
	for way, secure := range ways {
		t.Run(way, func(t *testing.T) {
			p := newAnsweringPeer(t, secure, func(w io.Writer, _ string) bool { answerWith(w, "", pong); return true })
			_, err := p.ask(t.Context(), "of alice")
			require.NoError(t, err)
			answerWith(p.first(), "", `{"stolen":true}`)
			eventually(t, "it to arrive", func() bool { return isThere(p.idle.conns[0]) })
			got, err := p.ask(t.Context(), "of bob")
			require.NoError(t, err)
			require.Equal(t, pong, got)
			require.Equal(t, 2, p.accepted())
		})
	}
}

// isThere reports whether the socket has bytes, or its end, and does not read them.
func isThere(c *conn) (is bool) {
	_ = c.raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		is = err == nil
	})
	return is
}

// TestTicketsOfTLSAreNotWordsOfTheServer: TLS 1.3 sends some to connections that are idle. What is said
// below HTTP is none of it, but a part of a record may be anything.
func TestTicketsOfTLSAreNotWordsOfTheServer(t *testing.T) {
	p := newPeer(t, true, func(conn net.Conn) {
		_ = conn.(interface{ HandshakeContext(context.Context) error }).HandshakeContext(context.Background())
		_, _ = io.Copy(io.Discard, conn)
	})
	p.options.TLS.ClientSessionCache = forgetful{} // without one there are no tickets
	for name, test := range map[string]struct {
		do    func(conn net.Conn)
		quiet bool
	}{
		"tickets":            {nil, true},
		"a word":             {func(conn net.Conn) { _, _ = io.WriteString(conn, "H") }, false},
		"an end":             {func(conn net.Conn) { _ = conn.Close() }, false},
		"a part of a record": {func(conn net.Conn) { _, _ = netConnOf(conn).Write([]byte{23, 3, 3, 0, 99, 1}) }, false},
		"a part of a header": {func(conn net.Conn) { _, _ = netConnOf(conn).Write([]byte{23, 3}) }, false},
		"no record":          {func(conn net.Conn) { _, _ = io.WriteString(netConnOf(conn), "HTTP/1.1 200 OK\r\n\r\n") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.accepted()
			raw, err := p.dial(t.Context(), p.address)
			require.NoError(t, err)
			c := newConn(raw)
			defer c.abort()
			eventually(t, "the tickets to arrive", func() bool { return isThere(c) })
			if test.do == nil {
				require.True(t, c.quiet())
				require.True(t, c.quiet())
				return
			}
			require.True(t, c.quiet())
			eventually(t, "the server to have the connection", func() bool { return p.accepted() > before })
			test.do(p.conns[before])
			eventually(t, "the connection to be of no use", func() bool { return !c.quiet() })
		})
	}
}

// forgetful has servers send tickets, and uses none.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

func netConnOf(conn net.Conn) net.Conn { return conn.(interface{ NetConn() net.Conn }).NetConn() }

func TestConnectionsEndWithTheTransport(t *testing.T) {
	p := newAnsweringPeer(t, false, func(w io.Writer, _ string) bool { answerWith(w, "", pong); return true })
	_, err := p.ask(t.Context(), "message")
	require.NoError(t, err)
	c := p.idle.take()
	require.NotNil(t, c)
	p.idle.put(c)
	p.Close()
	require.Zero(t, p.idle.count())
	p.idle.put(c)
	require.Zero(t, p.idle.count(), "one that comes back later is closed too")
}

func TestConnectionsThatWaitForTooLongAreClosed(t *testing.T) {
	p := newAnsweringPeer(t, false, func(w io.Writer, _ string) bool { answerWith(w, "", pong); return true })
	_, err := p.ask(t.Context(), "message")
	require.NoError(t, err)
	p.idle.expire()
	require.Equal(t, 1, p.idle.count())
	p.idle.mu.Lock()
	p.idle.conns[0].since = time.Now().Add(-idleTimeout)
	p.idle.mu.Unlock()
	p.idle.expire()
	require.Zero(t, p.idle.count())
}

// TestAConnectionThatServesManyRequestsIsOne: also with alarms in between.
func TestAConnectionThatServesManyRequestsIsOne(t *testing.T) {
	for way, secure := range ways {
		t.Run(way, func(t *testing.T) {
			p := newAnsweringPeer(t, secure, func(w io.Writer, body string) bool { answerWith(w, "", body); return true })
			until := time.Now().Add(5 * watchAfter)
			for i := 0; i < 20 || time.Now().Before(until); i++ {
				message := fmt.Sprint("message ", i)
				got, err := p.ask(t.Context(), message)
				require.NoError(t, err)
				require.Equal(t, message, got)
			}
			require.Equal(t, 1, p.accepted())
			response, err := p.Send(t.Context(), &Request{Method: http.MethodGet, Header: http.Header{}})
			require.NoError(t, err)
			require.Zero(t, response.ContentLength)
			require.NoError(t, response.Body.Close())
			require.Equal(t, 1, p.idle.count())
		})
	}
}
