package access

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// patience of the tests: longer than a busy machine stops a process.
const testPatience = 2 * time.Second

func testConnections(most int, trusted ...netip.Prefix) *Connections {
	c := NewConnections(config.Listener{TrustedProxies: trusted}, config.Limits{MaxConnectionsPerSource: most}, hclog.NewNullLogger())
	c.patience = testPatience
	return c
}

// smallBuffers gives the kernel little room for bytes that nobody reads, so that it is soon
// full.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn, conn.(*net.TCPConn).SetWriteBuffer(16 << 10)
}

func (s *stage) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.server.address)
	require.NoError(s.t, err)
	require.NoError(s.t, conn.(*net.TCPConn).SetReadBuffer(16<<10))
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// flood writes the request again and again, without reading an answer, until the
// gateway ends the connection.
func flood(t *testing.T, conn net.Conn, request string) {
	t.Helper()
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(time.Minute)))
	many := strings.Repeat(request, 100)
	for {
		if _, err := io.WriteString(conn, many); err != nil {
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is still open")
			return
		}
	}
}

func TestConnectionWhoseAnswersNobodyReadsIsEnded(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		for name, token := range map[string]string{"without a token": "", "with a bad one": badToken, "with a good one": goodToken} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newStageOn(t, netHTTP, testConnections(0), nil)
				flood(t, s.dial(), post("/servers/files/mcp", token, strings.Repeat("x", 900)))
			})
		}
		t.Run("for a path that is not there", func(t *testing.T) {
			t.Parallel()
			s := newStageOn(t, netHTTP, testConnections(0), nil)
			flood(t, s.dial(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		})
	})
}

func TestPageThatNobodyReadsIsEnded(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		ended := make(chan error, 1)
		s := newStageOn(t, netHTTP, testConnections(0), func(o *Options) {
			o.Root = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, err := w.Write(make([]byte, 32<<20))
				ended <- err
			})
		})
		_, err := io.WriteString(s.dial(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		select {
		case err := <-ended:
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		case <-time.After(time.Minute):
			t.Fatal("the page is still written, or its handler has ended with a panic")
		}
	})
}

// With a patience of an hour only the revocation can end the write.
func TestRevocationEndsAnAnswerThatNobodyReads(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		connections := testConnections(0)
		connections.patience = time.Hour
		s := newStageOn(t, netHTTP, connections, nil)
		writing, ended := make(chan struct{}), make(chan error, 1)
		s.handle = func(w http.ResponseWriter, _ *http.Request) {
			close(writing)
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					ended <- err
					return
				}
			}
		}
		_, err := io.WriteString(s.dial(), post("/servers/files/mcp", goodToken, "x"))
		require.NoError(t, err)
		<-writing
		s.vault.Revoke(goodToken)
		select {
		case err := <-ended:
			require.Error(t, err)
		case <-time.After(time.Minute):
			t.Fatal("the answer is still written")
		}
	})
}

func TestClientThatReadsSlowlyGetsAllOfItsAnswer(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		const size = 8 << 20
		s := newStageOn(t, netHTTP, testConnections(0), nil)
		s.handle = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }
		conn := s.dial()
		_, err := io.WriteString(conn, post("/servers/files/mcp", goodToken, "x", "Connection: close"))
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
		require.NoError(t, err)
		defer response.Body.Close()
		// Less than a piece at a time: more than the patience in all.
		got, piece := 0, make([]byte, size/50)
		for began := time.Now(); err == nil; {
			var n int
			n, err = io.ReadFull(response.Body, piece)
			got += n
			if time.Since(began) < 2*testPatience {
				<-time.After(testPatience / 20)
			}
		}
		require.Equal(t, size, got)
	})
}

// A write that its user bounds ends then, and one that it bounds no more goes on.
func TestWriteEndsByTheDeadlineOfItsUser(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	conn := &pacedConn{Conn: ours, patience: time.Hour}
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
	_, err := conn.Write([]byte("x"))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetWriteDeadline(time.Time{}))
	go func() { _, _ = theirs.Read(make([]byte, 1)) }()
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err)

	ended := make(chan error, 1)
	go func() {
		_, err := conn.Write([]byte("x"))
		ended <- err
	}()
	require.NoError(t, conn.SetWriteDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
}

func TestConnectionsOfASourceAreBounded(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		s := newStageOn(t, netHTTP, testConnections(2), nil)
		answer := func(conn net.Conn) *http.Response {
			_, err := io.WriteString(conn, post("/servers/files/mcp", goodToken, "x"))
			require.NoError(t, err)
			response, _ := s.answer(bufio.NewReader(conn))
			return response
		}
		first, second := s.dial(), s.dial()
		require.Equal(t, http.StatusOK, answer(first).StatusCode)
		require.Equal(t, http.StatusOK, answer(second).StatusCode)

		response := answer(s.dial())
		require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
		require.NotEmpty(t, response.Header.Get("Retry-After"))
		require.True(t, response.Close)
		require.Equal(t, http.StatusOK, answer(first).StatusCode, "those that were there go on")

		require.NoError(t, second.Close())
		s.vault.Await("a connection to be free", func() bool { return answer(s.dial()).StatusCode == http.StatusOK })
		require.Contains(t, s.text(), `"reason":"too-many-connections"`)
	})
}

// More than a few are not even told: they would be connections, too.
func TestConnectionsFarBeyondTheBoundAreClosed(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		connections := testConnections(1)
		s := newStageOn(t, netHTTP, connections, nil)
		for range 9 {
			conn := s.dial()
			_, err := io.WriteString(conn, "P") // the first byte of a request
			require.NoError(t, err)
		}
		source := netip.MustParsePrefix("127.0.0.1/32")
		s.vault.Await("the connections", func() bool {
			connections.mu.Lock()
			defer connections.mu.Unlock()
			return connections.open[source] == 9
		})
		conn := s.dial()
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, s.server.Close())
		s.vault.Await("all to be given back", func() bool {
			connections.mu.Lock()
			defer connections.mu.Unlock()
			return len(connections.open) == 0
		})
	})
}

func TestTrustedProxyIsNotBounded(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		s := newStageOn(t, netHTTP, testConnections(1, netip.MustParsePrefix("127.0.0.0/8")), nil)
		for range 20 {
			conn := s.dial()
			_, err := io.WriteString(conn, post("/servers/files/mcp", goodToken, "x"))
			require.NoError(t, err)
			response, _ := s.answer(bufio.NewReader(conn))
			require.Equal(t, http.StatusOK, response.StatusCode)
		}
	})
}

// A vector goes out whole and in order, however its buffers and the pieces of a write lie, and as
// long as its reader is slow.
func TestBuffersAreWrittenWhole(t *testing.T) {
	for name, sizes := range map[string][]int{
		"nothing": {}, "empty ones": {0, 0}, "a header": {300}, "a header and a body": {300, 64 << 10, 2},
		"a piece and little more": {writePiece, 1}, "pieces that end within buffers": {100_000, 1, 0, 200_000, 65_535, 2}, "many": slices.Repeat([]int{1000}, 1500),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer listener.Close()
			theirs, err := net.Dial("tcp", listener.Addr().String())
			require.NoError(t, err)
			defer theirs.Close()
			ours, err := smallBuffers{listener}.Accept()
			require.NoError(t, err)
			conn := &pacedConn{Conn: ours, patience: time.Minute}
			var buffers net.Buffers
			var want []byte
			for i, size := range sizes {
				b := bytes.Repeat([]byte{byte('a' + i%26)}, size)
				buffers, want = append(buffers, b), append(want, b...)
			}
			written := make(chan int64, 1)
			go func() {
				n, err := conn.WriteBuffers(&buffers)
				assert.NoError(t, err)
				written <- n
				_ = conn.Close()
			}()
			got, err := io.ReadAll(theirs)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
			require.EqualValues(t, len(want), <-written)
		})
	}
}
