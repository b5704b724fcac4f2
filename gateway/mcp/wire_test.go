package mcp

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// wireServer serves each connection with a function, and counts them.
type wireServer struct {
	*grants.Server
	mu    sync.Mutex
	conns []net.Conn
}

// newWireServer calls serve with each request of each connection, until it
// reports false.
func newWireServer(t *testing.T, serve func(w io.Writer, body string) (more bool)) *wireServer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	s := &wireServer{Server: &grants.Server{
		Name: "up", ID: "1", Transport: grants.TransportHTTP, URL: "http://" + listener.Addr().String() + "/mcp",
	}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			go serveWire(conn, serve)
		}
	}()
	return s
}

func serveWire(conn net.Conn, serve func(w io.Writer, body string) bool) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !serve(conn, string(body)) {
			return
		}
	}
}

// accepted is how many connections there were.
func (s *wireServer) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// upstream is the gateway's side of the server.
func (g *gateway) upstream(t *testing.T, server *grants.Server) *upstream {
	t.Helper()
	l, err := g.link(server)
	require.NoError(t, err)
	return l.(*proxy).upstream
}

func answerWith(w io.Writer, header, body string) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", header, len(body), body)
}
