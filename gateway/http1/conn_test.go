package http1

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRequestsInARowAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo)
	for name, whole := range map[string]bool{"at once": true, "byte by byte": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := post("one") + post("3\r\ntwo\r\n0\r\n\r\n", "Transfer-Encoding: chunked") +
				post("5;ext=1\r\nthree\r\n1\r\n!\r\n0\r\n\r\n", "Transfer-Encoding: chunked") +
				post(strings.Repeat("x", 10_000)) + post("Transfer-Encoding: chunked\nContent-Length: 3\n") + post("last", "Content-Length: 4", closing) + post("never")
			conn := s.dial()
			go func() {
				for step := 1; requests != ""; {
					if whole {
						step = len(requests)
					}
					if _, err := io.WriteString(conn, requests[:step]); err != nil {
						return
					}
					requests = requests[step:]
				}
			}()
			from := bufio.NewReader(conn)
			for _, want := range []string{"one", "two", "three!", strings.Repeat("x", 10_000), "Transfer-Encoding: chunked\nContent-Length: 3\n", "last"} {
				response, body := answer(t, from, "POST")
				require.Equal(t, 200, response.StatusCode)
				require.Equal(t, want, body)
				require.Equal(t, want == "last", response.Close)
			}
			_, err := from.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// broken are chunked bodies that are not valid.
var broken = map[string]string{
	"a size that is no number":         "x\r\n",
	"no size":                          "\r\n",
	"a size with a sign":               "+1\r\na\r\n0\r\n\r\n",
	"a size with 0x":                   "0x1\r\na\r\n0\r\n\r\n",
	"a size with a space":              "1 \r\na\r\n0\r\n\r\n",
	"a size of 16 digits":              "0000000000000001\r\na\r\n0\r\n\r\n",
	"a bare LF behind the size":        "1\na\r\n0\r\n\r\n",
	"a bare LF behind the chunk":       "1\r\na\n0\r\n\r\n",
	"a chunk that is longer than said": "1\r\nab\r\n0\r\n\r\n",
	"a bare LF at the end":             "1\r\na\r\n0\r\n\n",
	"an extension with a space":        "1; a\r\na\r\n0\r\n\r\n",
	"an extension with a quote":        "1;a=\"b\"\r\na\r\n0\r\n\r\n",
	"an extension with a CR":           "1;a\rb\r\na\r\n0\r\n\r\n",
	"a long extension":                 "1;" + strings.Repeat("a", 200) + "\r\na\r\n0\r\n\r\n",
	"much between the chunks":          strings.Repeat("1;"+strings.Repeat("a", 100)+"\r\na\r\n", 300) + "0\r\n\r\n",
	"a trailer":                        "1\r\na\r\n0\r\nX: y\r\n\r\n",
	"a space behind the last chunk":    "1\r\na\r\n0\r\n \r\n",
	"a CR alone behind the last chunk": "1\r\na\r\n0\r\n\r\r\n",
}

func TestBodiesThatAreNotValidEndTheirConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo)
	for name, body := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := s.raw(post(body, "Transfer-Encoding: chunked") + post("smuggled"))
			require.Equal(t, "HTTP/1.1 400 Bad Request", status(raw))
			require.Equal(t, 1, strings.Count(raw, "HTTP/1.1 "), raw)
			require.Contains(t, raw, "\r\nConnection: close\r\n")
		})
	}
}

func TestBodyThatTheHandlerLeavesIsNotTakenForARequest(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 2))
	})
	inside := post("smuggled")
	raw := s.raw(post("ab"+inside) + post("3\r\nabc\r\n1\r\nx\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + get)
	require.Equal(t, 3, strings.Count(raw, "HTTP/1.1 200 OK"), "short ones are read")
	raw = s.raw(post(strings.Repeat(inside, 400_000/len(inside)), "Content-Length: 400000"))
	require.Equal(t, 1, strings.Count(raw, "HTTP/1.1 200 OK"), "long ones end the connection")
	require.Contains(t, raw, "\r\nConnection: close\r\n")
}

func TestHalfClosedConnectionIsAnswered(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo)
	conn := s.dial()
	_, err := io.WriteString(conn, post("one")+post("two"))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answers, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(answers), "HTTP/1.1 200 OK"))

	conn = s.dial()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHos")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answers, err = io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 400 Bad Request", status(string(answers)))
}

func TestTimesAreBounded(t *testing.T) {
	const header, whole, idle = 3 * time.Second, 20 * time.Second, 40 * time.Second
	for name, test := range map[string]struct {
		sends []string // one a second
		ends  time.Duration
		gets  string
	}{
		"a connection without a request":       {nil, header, ""},
		"a header that comes slowly":           {strings.Split("GET / HTTP/1.1", ""), header, ""},
		"a second header that comes slowly":    {append([]string{post("x"), ""}, strings.Split("GET / HTTP/1.1", "")...), 2*time.Second + header, "HTTP/1.1 200"},
		"a connection between two requests":    {[]string{post("x")}, idle, "HTTP/1.1 200"},
		"a body that comes slowly":             {append([]string{post("", "Content-Length: 100")}, strings.Split(strings.Repeat("x", 99), "")...), whole, "HTTP/1.1 400"},
		"chunks that come slowly":              {append([]string{post("", "Transfer-Encoding: chunked")}, strings.Split(strings.Repeat("1\r\nx\r\n", 50), "")...), whole, "HTTP/1.1 400"},
		"idle times begin with each request":   {append([]string{post("x")}, append(make([]string, 30), post("x"))...), 31*time.Second + idle, "HTTP/1.1 200"},
		"a body begins with each of them, too": {append([]string{post("x")}, append(make([]string, 15), append([]string{post("", "Content-Length: 100")}, make([]string, 60)...)...)...), 16*time.Second + whole, "HTTP/1.1 400"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				s := &Server{Handler: http.HandlerFunc(echo), MaxHeaderBytes: 32 << 10, ReadHeaderTimeout: header, ReadTimeout: whole, IdleTimeout: idle, ErrorLog: log.Default()}
				ended := make(chan time.Duration)
				began := time.Now()
				go func() {
					(&conn{server: s, net: ours}).serve()
					ended <- time.Since(began)
				}()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for _, p := range test.sends {
						if p != "" {
							if _, err := io.WriteString(theirs, p); err != nil {
								return
							}
						}
						<-time.After(time.Second)
					}
				}()
				got := make(chan string)
				go func() {
					all, _ := io.ReadAll(theirs)
					got <- string(all)
				}()
				require.Equal(t, test.ends, <-ended)
				all := <-got
				<-sent
				require.Contains(t, all, test.gets)
			})
		})
	}
}

// resets counts how often the deadline of a connection is set.
type resets struct {
	net.Conn
	n atomic.Int64
}

func (c *resets) SetReadDeadline(t time.Time) error {
	c.n.Add(1)
	return c.Conn.SetReadDeadline(t)
}

type resetsListener struct {
	net.Listener
	conn *resets
}

func (l *resetsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.conn.Conn = conn
	return l.conn, nil
}

func TestBusyConnectionSetsNoDeadlineForEachRequest(t *testing.T) {
	t.Parallel()
	counted := new(resets)
	s := newStageOn(t, &resetsListener{listen(t), counted}, echo, func(s *Server) {
		s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = time.Minute, time.Minute, time.Hour
	})
	conn := s.dial()
	from := bufio.NewReader(conn)
	for range 500 {
		_, err := io.WriteString(conn, post(strings.Repeat("x", 5000)))
		require.NoError(t, err)
		answer(t, from, "POST")
	}
	require.Less(t, counted.n.Load(), int64(10))
}

func TestRequestIsCancelledWhenItsClientGoes(t *testing.T) {
	for name, request := range map[string]string{
		"while its server is silent":          post("x"),
		"with a body that is not complete":    post("", "Content-Length: 100"),
		"with another request behind":         post("x") + post("y"),
		"with a body that nobody reads":       post(strings.Repeat("x", 3000)),
		"by its end alone, and still listens": post("x", "Content-Length: 1", "X-Half: 1"),
	} {
		t.Run(name, func(t *testing.T) {
			running, cancelled := make(chan struct{}), make(chan time.Time, 2)
			s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
				running <- struct{}{}
				<-r.Context().Done()
				cancelled <- time.Now()
			})
			var took []time.Duration
			for _, wait := range []time.Duration{0, 0, 5 * time.Millisecond, 15 * time.Millisecond, 100 * time.Millisecond} {
				conn := s.dial()
				_, err := io.WriteString(conn, request)
				require.NoError(t, err)
				<-running
				<-time.After(wait)
				gone := time.Now()
				if strings.Contains(request, "X-Half") {
					require.NoError(t, conn.(*net.TCPConn).CloseWrite())
				} else {
					require.NoError(t, conn.Close())
				}
				took = append(took, (<-cancelled).Sub(gone))
				if strings.Count(request, "POST") > 1 {
					<-running
					<-cancelled
				}
			}
			t.Log(took)
			for _, d := range took {
				require.Less(t, d, 5*time.Second) // 25 ms on an idle machine
			}
		})
	}
}

// hold opens so many connections, and returns the heap and stacks that each of them costs.
func hold(t *testing.T, s *stage, n int, request string) (each int64, conns []net.Conn) {
	t.Helper()
	size := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	before := size()
	for range n {
		conn := s.dial()
		conns = append(conns, conn)
		_, err := io.WriteString(conn, request)
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 4096))
		require.NoError(t, err)
	}
	return (size() - before) / int64(n), conns
}

func TestStreamHoldsNoBuffer(t *testing.T) {
	const streams = 300
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": hello\n\n")
		_ = http.NewResponseController(w).Flush()
		if x := w.(*exchange); x.out != nil || x.c.in.Size() > 0 {
			t.Error("it holds a buffer")
		}
		<-r.Context().Done()
	})
	each, conns := hold(t, s, streams, post(strings.Repeat("x", 2000)))
	t.Logf("a stream costs %d bytes, with its client", each)
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
}

func TestStreamLetsAnotherRequestFollow(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		for range 3 {
			_, _ = io.WriteString(w, "x")
			assert.NoError(t, control.Flush())
		}
		echo(w, r)
	})
	conn := s.dial()
	from := bufio.NewReader(conn)
	for range 3 {
		_, err := io.WriteString(conn, post("y"))
		require.NoError(t, err)
		_, body := answer(t, from, "POST")
		require.Contains(t, body, "xxx")
	}
}

// observed notes whether its connection has a buffer while a read waits.
type observed struct {
	net.Conn
	c        *conn
	buffered atomic.Bool
}

func (o *observed) Read(p []byte) (int, error) {
	o.buffered.Store(o.c.in.Size() > 0)
	return o.Conn.Read(p)
}

// After a while, a connection that waits gives its buffer away, and takes another for a request.
func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &Server{Handler: http.HandlerFunc(echo), MaxHeaderBytes: 32 << 10, IdleTimeout: time.Hour, ErrorLog: log.Default()}
		o := &observed{Conn: ours}
		o.c = &conn{server: s, net: o}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			o.c.serve()
		}()
		from := bufio.NewReader(theirs)
		for range 3 {
			_, err := io.WriteString(theirs, post("x"))
			require.NoError(t, err)
			answer(t, from, "POST")
			<-time.After(bufferPatience / 2)
			synctest.Wait()
			require.True(t, o.buffered.Load())
			<-time.After(bufferPatience)
			synctest.Wait()
			require.False(t, o.buffered.Load())
		}
		require.NoError(t, theirs.Close())
		<-ended
	})
}
