package gatewaytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Listen listens on the loopback until the test's end.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// Serve serves each connection with a function, and then closes it. It is for servers with
// behaviour that no library has.
func Serve(listener net.Listener, serve func(conn net.Conn)) {
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
}

// AnswerEach reads the requests of a connection, and calls answer with the body of each until it
// reports false.
func AnswerEach(conn net.Conn, answer func(w io.Writer, body string) (more bool)) {
	reader := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !answer(conn, string(body)) {
			return
		}
	}
}
