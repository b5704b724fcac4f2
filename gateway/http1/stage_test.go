package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience of the tests with a busy machine.
const patience = 20 * time.Second

// stage is a server with its client's view.
type stage struct {
	t      *testing.T
	server *Server
	addr   string
	served chan error
	logged *lines
}

// lines collects the server's log.
type lines struct{ c chan string }

func (l *lines) Write(p []byte) (int, error) {
	l.c <- string(p)
	return len(p), nil
}

func newStage(t *testing.T, handler http.HandlerFunc, with ...func(*Server)) *stage {
	t.Helper()
	return newStageOn(t, listen(t), handler, with...)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

func newStageOn(t *testing.T, listener net.Listener, handler http.HandlerFunc, with ...func(*Server)) *stage {
	t.Helper()
	s := &stage{t: t, addr: listener.Addr().String(), served: make(chan error, 1), logged: &lines{make(chan string, 100)}}
	s.server = &Server{Handler: handler, MaxHeaderBytes: 32 << 10, ErrorLog: log.New(s.logged, "", 0)}
	for _, f := range with {
		f(s.server)
	}
	go func() { s.served <- s.server.Serve(listener) }()
	t.Cleanup(func() {
		_ = s.server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, s.server.Shutdown(ctx), "a connection or a handler is left")
	})
	return s
}

func (s *stage) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(s.t, err)
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(patience)))
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw sends bytes, and returns all that the server sends until it ends the connection.
func (s *stage) raw(request string) string {
	s.t.Helper()
	conn := s.dial()
	_, err := io.WriteString(conn, request)
	require.NoError(s.t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(s.t, err)
	return string(answer)
}

// answer reads one answer.
func answer(t *testing.T, from *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	response, err := http.ReadResponse(from, &http.Request{Method: method})
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response, string(body)
}

// echo answers with the request's body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(body)
}

func post(body string, lines ...string) string {
	if len(lines) == 0 {
		lines = []string{fmt.Sprintf("Content-Length: %d", len(body))}
	}
	return "POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

func status(answer string) string {
	line, _, _ := strings.Cut(answer, "\r\n")
	return line
}
